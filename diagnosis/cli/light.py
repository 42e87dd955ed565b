"""``memleak-lab trace --light``: which code makes one process grow, without probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def trace_light(
    target: Target, seconds: float, output: Format, *, top: int, smallest: int, unwind: UnwindMode
) -> LightReport:
    """Sample the target's main process for a while, and print the report.

    Args:
        target: what runs already.
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
