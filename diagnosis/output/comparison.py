"""Two reports beside each other, by call site: before a fix and after it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rich.table import Table

from diagnosis.base.units import format_duration, format_size
from diagnosis.output.tables import print_prose
from diagnosis.report.site import call_site

if TYPE_CHECKING:
    from rich.console import Console

    from diagnosis.output.document import Capture
    from diagnosis.report.report import Report
    from diagnosis.report.site import CallSite

SHOWN_SITES = 10


def bytes_per_minute(report: Report) -> dict[CallSite, float]:
    """What each call site kept of the window, as a rate: windows of different lengths can be compared."""
    rates: defaultdict[CallSite, float] = defaultdict(float)
    for stack in report.stacks:
        rates[call_site(stack.frames)] += stack.kept_bytes / report.window_seconds * 60
    return rates


def site_changes(before: Report, after: Report) -> list[tuple[CallSite, float, float]]:
    """What each call site kept a minute, in bytes, before and after: the largest changes first, none of nothing."""
    rates = bytes_per_minute(before), bytes_per_minute(after)
    pairs = [(site, rates[0].get(site, 0.0), rates[1].get(site, 0.0)) for site in rates[0].keys() | rates[1].keys()]
    pairs = [(site, old, new) for site, old, new in pairs if max(old, new) >= 1]
    return sorted(pairs, key=lambda pair: (-abs(pair[2] - pair[1]), pair[0]))


def print_comparison(console: Console, before: Capture, after: Capture, shown: int = SHOWN_SITES) -> None:
    """Bytes a minute by call site, the largest changes first, then both verdicts."""
    table = Table(title="bytes kept a minute, by call site", title_justify="left")
    table.add_column("call site", overflow="fold")
    for name in ("before", "after", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    for site, old, new in site_changes(before.report, after.report)[:shown]:
        sign = "+" if new > old else ""
        table.add_row(
            f"{site.function} < {site.caller}" if site.caller else site.function,
            format_size(old),
            format_size(new),
            f"{sign}{format_size(new - old)}",
        )
    console.print(table)
    for name, capture in (("before", before), ("after", after)):
        report = capture.report
        length = format_duration(report.window_seconds)
        console.print(
            f"{name} (pid {report.target.pid}, {length}): {report.verdict.summary}",
            highlight=False,
            soft_wrap=not console.is_terminal,  # a terminal would break words
            markup=False,
        )
    if 0 < after.origin.started < before.origin.started:
        seconds = before.origin.started - after.origin.started
        print_prose(
            console,
            f"The first report is {format_duration(seconds)} younger than the second: the change is shown backwards."
            " Name the older one first.",
            "yellow",
        )
