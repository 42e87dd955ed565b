"""A chart of a run: claimed and real memory over time, and the functions that hold the difference."""

from __future__ import annotations

import importlib.util
import io
import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.base.units import MIB
from diagnosis.report.site import call_site

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from diagnosis.lab.view import Moment
    from diagnosis.report.report import Report

FORMATS = (".svg", ".png")
SHOWN_FUNCTIONS = 5
CLAIM, TRUTH = "tab:green", "tab:red"


def require_plotting(path: Path) -> None:
    """Raise a LabError where a chart cannot be drawn into this file: before the run, not after it."""
    if path.suffix not in FORMATS:
        raise LabError(f"--chart {path}: its name has to end in {' or '.join(FORMATS)}", f"--chart {path.stem}.svg")
    if importlib.util.find_spec("matplotlib") is None:
        raise LabError("--chart needs matplotlib", ".venv/bin/pip install --require-hashes -r requirements/chart.txt")


def draw_chart(path: Path, moments: Sequence[Moment], report: Report) -> bytes:
    """The run as a picture: memory over the story's time on the left, bytes outstanding by function on the right.

    Args:
        path: the file that it is for: its suffix says of what kind.
        moments: of the run.
        report: of its window.
    """
    # Imported here: it takes as long as the rest of the program, and few runs draw.
    from matplotlib import rcParams  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    rcParams["svg.hashsalt"] = "memleak-lab"  # the same run draws the same file
    figure = Figure(figsize=(11, 4), layout="constrained")
    over_time, by_function = figure.subplots(1, 2, width_ratios=(2, 1))
    _draw_memory(over_time, moments)
    _draw_functions(by_function, report)
    drawn = io.BytesIO()
    kind = path.suffix.removeprefix(".")
    figure.savefig(drawn, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return drawn.getvalue()


def _draw_memory(axes: Axes, moments: Sequence[Moment]) -> None:
    minutes = [moment.story / 60 for moment in moments]
    axes.plot(minutes, [moment.resident_bytes / MIB for moment in moments], color=TRUTH, label="the kernel knows")
    axes.plot(minutes, [moment.claims.resident_bytes / MIB for moment in moments], color=CLAIM, label="it claims")
    for before, after in itertools.pairwise(moments):
        if before.phase != after.phase:
            axes.axvline(after.story / 60, color="grey", linestyle=":", linewidth=1)
            axes.annotate(
                f" {after.phase}", (after.story / 60, 1), xycoords=("data", "axes fraction"), va="top", fontsize="small"
            )
    axes.set(xlabel="minutes of the story", ylabel="resident memory, MiB", title="One process, two accounts of it")
    axes.set_ylim(bottom=0)
    axes.legend(loc="center left")


def _draw_functions(axes: Axes, report: Report) -> None:
    held: defaultdict[str, int] = defaultdict(int)
    for stack in report.stacks:
        held[call_site(stack.frames).function] += stack.outstanding_bytes
    most = sorted(held.items(), key=lambda item: item[1])[-SHOWN_FUNCTIONS:]
    bars = axes.barh([name for name, _ in most], [size / MIB for _, size in most], color=TRUTH)
    axes.bar_label(bars, fmt="%.1f", padding=2)
    axes.margins(x=0.2)
    axes.set(xlabel="MiB outstanding", title=f"Traced for {report.window_seconds:.0f} s")
