"""``memleak-lab trace --light``: which code makes one process grow, without probes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from diagnosis.base.own_command import own_command
from diagnosis.cli.formats import Format, emit
from diagnosis.cli.origin import origin_of_this
from diagnosis.cli.signals import stop_on_signals
from diagnosis.faults.light import sample
from diagnosis.output.document import light_report_as_json
from diagnosis.output.folded import folded
from diagnosis.output.tables import error_console, print_light, report_console
from diagnosis.target.symbols import Symbolizer

if TYPE_CHECKING:
    from heap_trace import UnwindMode

    from diagnosis.cli.target import Target
    from diagnosis.faults.light import LightReport
    from diagnosis.target.process import Process


def trace_light(
    target: Target, seconds: float, output: Format, *, top: int, smallest: int, unwind: UnwindMode
) -> LightReport:
    """Sample the target's main process for a while, and print the report.

    Args:
        target: what runs already. Its other processes are counted in a note, and not sampled.
        seconds: how long, unless a signal ends it before.
        output: table, JSON or folded stacks.
        top: how many stacks the table has.
        smallest: growth in bytes that is worth a name.
        unwind: how stacks are taken.

    Raises:
        LabError: there is no such process, it ended, or page faults cannot be sampled.
    """
    process = target.find()
    stopped = stop_on_signals()
    error_console().print(f"sampling pid {process.pid} for {seconds:g} s, or until Ctrl-C", highlight=False)
    with Symbolizer(process) as symbolizer:
        report = sample(
            process, symbolizer, seconds, lambda wait: not stopped.wait(wait), smallest=smallest, unwind=unwind
        )
    report = replace(report, notes=(*report.notes, *others_not_seen(target, process)))
    match output:
        case Format.JSON:
            options = {"light": True, "duration": seconds, "smallest_growth": smallest}
            emit(light_report_as_json(report, origin_of_this(options)))
        case Format.FOLDED:
            stacks = ((stack.frames, round(stack.touched_bytes)) for stack in report.stacks)
            emit("".join(f"{line}\n" for line in folded(report.target, stacks)))
        case _:
            print_light(report_console(), report, top)
    return report


def others_not_seen(target: Target, process: Process) -> tuple[str, ...]:
    """A line where the target has more processes than the one that was looked at: how many, and how to see them."""
    count = len(target.others(process))
    if not count:
        return ()
    kind = "child" if target.pid is not None else "other"
    what = f"{count:,} {kind} processes have" if count > 1 else f"1 {kind} process has"
    where = f" --container {target.container}" if target.container is not None else ""
    unseen = f"{what} memory that is not in these numbers: --light looks at one process, pid {process.pid}."
    return (f"{unseen} See which of them grow: {own_command()} watch{where}",)
