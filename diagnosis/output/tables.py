"""The report and the preflight as tables on a terminal."""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from diagnosis.base.errors import LabError
from diagnosis.base.text import MAX_LINE, safe_text
from diagnosis.base.units import MIB, format_change, format_count, format_duration, format_size
from diagnosis.output.against import HEADINGS, against
from diagnosis.output.source import source_lines
from diagnosis.report.lost import UNCOUNTED
from diagnosis.report.site import call_site, short_name
from diagnosis.report.verdict import Answer
from diagnosis.report.wrappers import first_own
from diagnosis.trace.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnosis.doctor.preflight import Check
    from diagnosis.faults.growth import TouchedStack
    from diagnosis.faults.light import LightReport
    from diagnosis.lab.claims import ClaimsWindow
    from diagnosis.lab.grade import Grade
    from diagnosis.report.account import Account, Part
    from diagnosis.report.report import Report, StackReport
    from diagnosis.report.summary import Verdict
    from diagnosis.target.allocator import Allocator
    from diagnosis.trace.measured import Measured, Names
    from diagnosis.trace.snapshot import Snapshot

SHOWN_STACKS = 5

PIPE_WIDTH = 120

# What to do about a part of the growth is said from here on.
WORTH_A_REMEDY_BYTES = MIB

_STYLES = {Answer.LEAK: "bold red", Answer.GROWING: "bold yellow", Answer.NO_LEAK: "bold green"}


class ReportConsole(Console):
    """A console that reports a reader who left as the error it is, and does not end the program on the spot."""

    def on_broken_pipe(self) -> None:
        """Called by rich, which ends the program otherwise."""
        raise LabError("standard output was closed")


def report_console() -> Console:
    """Standard output: as wide as its terminal, or wide enough for every table where it goes to a file or a pipe.

    Text is printed as it is, without markup: most of it comes from somebody else.
    """
    return ReportConsole(width=None if sys.stdout.isatty() else PIPE_WIDTH, markup=False, emoji=False, highlight=False)


def error_console() -> Console:
    """Standard error, for what is not the report. Without markup, too."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def print_prose(console: Console, text: str, style: str = "", indent: int = 0) -> None:
    """A paragraph: broken between words on a terminal, and left whole for a file or a pipe, where it is searched."""
    if console.is_terminal:
        console.print(Padding(Text(text, style=style), (0, 0, 0, indent)))
    else:
        console.print(" " * indent + text, style=style, highlight=False, soft_wrap=True, markup=False)


def print_checks(console: Console, checks: Sequence[Check]) -> None:
    """One line a check, and the remedy where something is missing."""
    for check in checks:
        mark = Text("ok     ", "green") if check.ok else Text("MISSING", "red")
        remedy = f": {check.remedy}" if check.remedy else ""
        text = safe_text(check.found + remedy, MAX_LINE)
        console.print(mark.append(f" {check.name:<18} {text}", "default"), highlight=False, soft_wrap=True)


def print_report(
    console: Console,
    report: Report,
    shown: int = SHOWN_STACKS,
    *,
    claims: ClaimsWindow | None = None,
    everything: bool = False,
) -> None:
    """The stacks that hold most, then claims against truth for a process that claims something, then the verdict.

    Stacks that hold nothing are left out, unless ``everything`` is wanted.
    """
    console.print()
    console.print(f"pid {report.target.pid}: {report.target.command}", highlight=False, soft_wrap=True, markup=False)
    console.print("bytes outstanding by call stack, the innermost function first", style="italic")
    for stack in [stack for stack in report.stacks if everything or stack.outstanding_bytes > 0][:shown]:
        _print_stack(console, stack, source=call_site(stack.frames).function == report.verdict.function)
    if report.account is not None:
        _print_account(console, report.account)
    if claims is not None:
        console.print(_against(report, claims))
    counted = () if any(report.lost.get(kind) for kind in UNCOUNTED) else ("No event was lost.",)
    for note in (*counted, *report.notes):
        print_prose(console, note, "dim")
    _print_verdict(console, report.verdict)


def _print_verdict(console: Console, verdict: Verdict) -> None:
    print_prose(console, verdict.summary, _STYLES[verdict.answer])


def _print_account(console: Console, account: Account) -> None:
    """Where memory went: the kernel's kinds, and the parts of anonymous memory below it."""
    files = account.file_growth
    and_files = f", {format_change('mapped files', files)}" if files else ""
    console.print(
        f"{format_change('memory', account.held_growth)}{and_files};"
        f" {format_size(account.resident_bytes)} are resident now"
        f" (read to within {format_size(account.error_bytes)})",
        style="bold",
        highlight=False,
    )
    for part in account.kinds:
        if part.bytes or part.name == "anonymous":
            _print_part(console, part, "  ")
        if part.name == "swapped":
            for inner in account.anonymous:
                _print_part(console, inner, "      ")


def _print_part(console: Console, part: Part, indent: str) -> None:
    console.print(
        f"{indent}{format_size(part.bytes):>10}  {part.meaning}", highlight=False, soft_wrap=True, markup=False
    )
    if part.remedy and part.bytes >= WORTH_A_REMEDY_BYTES:
        print_prose(console, part.remedy, "dim", len(indent) + 12)


def _print_stack(console: Console, stack: StackReport, *, source: bool) -> None:
    """One stack; with the source around its function where the file is here."""
    share = stack.share_of_resident_growth
    figures = [
        f"{format_size(stack.outstanding_bytes)} outstanding",
        format_count(stack.allocations, "allocation"),
        format_count(stack.frees, "free"),
        f"leak ratio {stack.leak_ratio:.1%} of the bytes, {stack.leak_ratio_blocks:.1%} of the blocks",
        f"{format_size(stack.bytes_per_minute)} a minute",
        f"oldest {format_duration(stack.oldest_seconds)}",
    ]
    if stack.older_frees:
        older = format_count(stack.older_frees, "older block")
        figures.append(f"{older} of its size freed ({format_size(stack.older_bytes)})")
    if share is not None:
        figures.append(f"{share:.1%} of the growth" if share <= 1 else "more than the growth: see the account below")
    print_prose(console, ", ".join(figures), "bold", 2)
    own = first_own(stack.frames)
    for depth, frame in enumerate(stack.frames):
        place = f"{frame.file_name}:{frame.line}" if frame.line else frame.module
        console.print(f"      {frame.name:<32} {place}", highlight=False, soft_wrap=True, markup=False)
        if depth == own and source:
            for number, line in source_lines(frame):
                mark = ">" if number == frame.line else " "
                console.print(
                    f"       {mark}{number:>5}  {line}", style="dim", highlight=False, soft_wrap=True, markup=False
                )
    if stack.broken:
        console.print("      ... and no further: a line below says why", style="dim", highlight=False)


def _against(report: Report, claims: ClaimsWindow) -> Table:
    table = Table(title="claims against truth", title_justify="left")
    for name in HEADINGS:
        table.add_column(name, no_wrap=True)
    for row in against(report, claims):
        table.add_row(*map(Text, row))
    return table


def print_grade(console: Console, result: Grade) -> None:
    """Right or wrong, and why."""
    style = "bold green" if result.right else "bold red" if result.available else "bold yellow"
    print_prose(console, result.text, style)


def print_top(
    console: Console, tracer: Measured, symbolizer: Names, first: Snapshot, shown: int = SHOWN_STACKS
) -> None:
    """What is outstanding now, a line for each of the places that hold most: those of the report, so far."""
    now = tracer.snapshot()
    places: defaultdict[str, Counts] = defaultdict(Counts)
    for stack, counts in now.since(first).items():
        found = symbolizer.symbolize(tracer.frames(stack), tracer.ending(stack), tracer.python(stack))
        name = short_name(found.frames, 3)
        places[name] += counts
    console.print(f"after {format_duration(now.seconds - first.seconds)}:", style="bold", highlight=False)
    held = [(name, counts) for name, counts in places.items() if counts.outstanding_bytes > 0]
    for name, counts in sorted(held, key=lambda place: -place[1].outstanding_bytes)[:shown]:
        console.print(
            f"  {format_size(counts.outstanding_bytes):>10} in {counts.outstanding:,} blocks  {name}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )


def print_placements(console: Console, pid: int, allocators: Sequence[Allocator]) -> None:
    """Where each probe goes in a process's allocators, and why."""
    for allocator in allocators:
        table = Table(title=Text(f"probes of pid {pid} in {safe_text(allocator.name)}"), title_justify="left")
        for name in ("function", "offset in file", "instruction", "kernel", "why"):
            table.add_column(name)
        for placed in allocator.probes:
            placement = placed.placement
            table.add_row(
                f"{placed.name}+{placement.delta}",
                f"{placed.probe.offset:#x}",
                placement.instruction,
                "emulates" if placement.emulated else "steps over",
                placement.reason,
            )
        console.print(table)
        for line in allocator.blind_spots:
            console.print(line, highlight=False, soft_wrap=True, markup=False)


def print_light(console: Console, report: LightReport, shown: int = SHOWN_STACKS) -> None:
    """The stacks that touched most new memory, and the verdict."""
    console.print()
    console.print(f"pid {report.target.pid}: {report.target.command}", highlight=False, soft_wrap=True, markup=False)
    console.print("new memory touched, by call stack (estimates from samples of page faults)", style="italic")
    for stack in report.stacks[:shown]:
        print_touched(console, stack)
    for note in report.notes:
        print_prose(console, note, "dim")
    _print_verdict(console, report.verdict)


def print_touched(console: Console, stack: TouchedStack) -> None:
    """New memory and its error, with the innermost functions, as one line."""
    size, error = format_size(stack.touched_bytes), format_size(stack.error_bytes)
    console.print(
        f"  {size:>10} ± {error:<10} {short_name(stack.frames, 4)}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
