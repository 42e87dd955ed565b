"""Two reports beside each other, by call site: before a fix and after it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rich.table import Table

from diagnosis.base.units import format_duration, format_size
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
        kept = max(0, stack.outstanding_bytes - stack.older_bytes)
        rates[call_site(stack.frames)] += kept / report.window_seconds * 60
    return rates


def print_comparison(console: Console, before: Capture, after: Capture, shown: int = SHOWN_SITES) -> None:
    """Bytes a minute by call site, the largest changes first, then both verdicts."""
    rates = bytes_per_minute(before.report), bytes_per_minute(after.report)
    changes = {site: rates[1].get(site, 0.0) - rates[0].get(site, 0.0) for site in rates[0].keys() | rates[1].keys()}
    table = Table(title="bytes kept a minute, by call site", title_justify="left")
    table.add_column("call site", overflow="fold")
    for name in ("before", "after", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    for site, change in sorted(changes.items(), key=lambda item: (-abs(item[1]), item[0]))[:shown]:
        sign = "+" if change > 0 else ""
        table.add_row(
            f"{site.function} < {site.caller}" if site.caller else site.function,
            format_size(rates[0].get(site, 0.0)),
            format_size(rates[1].get(site, 0.0)),
            f"{sign}{format_size(change)}",
        )
    console.print(table)
    for name, capture in (("before", before), ("after", after)):
        report = capture.report
        length = format_duration(report.window_seconds)
        console.print(
            f"{name} (pid {report.target.pid}, {length}): {report.verdict.summary}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
