"""What a page shows, as plain data: the page's scripts put it into the page as text, and never as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from diagnosis.base.units import format_duration, format_size
from diagnosis.output.against import HEADINGS, against
from diagnosis.output.comparison import site_changes
from diagnosis.output.folded import short_command
from diagnosis.output.html_report.charts import story_charts, window_chart
from diagnosis.output.html_report.flame import flame_tree
from diagnosis.output.html_report.sites import call_sites
from diagnosis.report.lost import UNCOUNTED
from diagnosis.report.site import call_site

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from diagnosis.lab.claims import ClaimsWindow
    from diagnosis.lab.grade import Grade
    from diagnosis.lab.view import Moment
    from diagnosis.output.document import Capture
    from diagnosis.report.account import Account, Part
    from diagnosis.report.report import Report

# Call sites of a comparison that changed most.
MOST_CHANGES = 30


@dataclass(frozen=True)
class Shown:
    """A report, and what else is known of it.

    Attributes:
        capture: the report.
        claims: what the service claimed.
        moments: what it claimed over the time before, beside the kernel and the ledger.
        grade: whether the diagnosis is right.
        sources: folders in which source files may lie that debug information names without a whole path.
    """

    capture: Capture
    claims: ClaimsWindow | None = None
    moments: Sequence[Moment] = ()
    grade: Grade | None = None
    sources: Sequence[Path] = ()


def one_report(shown: Shown) -> dict[str, Any]:
    """The contents of a page about one report."""
    return {"title": _title(shown.capture), "captures": [_capture(shown, "")], "changes": None}


def two_reports(before: Capture, after: Capture, sources: Sequence[Path] = ()) -> dict[str, Any]:
    """The contents of a page that compares two, before a fix and after it. ``sources``: see `Shown`."""
    changes = site_changes(before.report, after.report)
    return {
        "title": f"{_title(before)}, before and after",
        "captures": [
            _capture(Shown(before, sources=sources), "Before"),
            _capture(Shown(after, sources=sources), "After"),
        ],
        "changes": {
            "rows": [
                {"function": site.function, "caller": site.caller, "before": old, "after": new}
                for site, old, new in changes[:MOST_CHANGES]
            ],
            "more": max(0, len(changes) - MOST_CHANGES),
            "before": sum(old for _, old, _ in changes),
            "after": sum(new for _, _, new in changes),
        },
    }


def _title(capture: Capture) -> str:
    target = capture.report.target
    return f"{short_command(target)} (pid {target.pid})"


def _capture(shown: Shown, label: str) -> dict[str, Any]:
    report = shown.capture.report
    return {
        "label": label,
        "about": list(_about(shown.capture)),
        "origin": list(_origin(shown.capture)),
        "verdict": _verdict(report),
        "figures": list(_figures(report)),
        "grade": {"right": shown.grade.right, "available": shown.grade.available, "text": shown.grade.text}
        if shown.grade
        else None,
        "against": {"headings": HEADINGS, "rows": against(report, shown.claims)} if shown.claims else None,
        "story": story_charts(shown.moments),
        "window": window_chart(report),
        "flame": flame_tree(report),
        "sites": call_sites(report, shown.sources, shown.capture.origin.started or None),
        "account": _account(report.account) if report.account else None,
        "lost": {
            "counts": [[kind.replace("_", " "), count] for kind, count in report.lost.items() if count],
            "complete": not any(report.lost.get(kind) for kind in UNCOUNTED),
            "notes": list(report.notes),
        },
    }


def _verdict(report: Report) -> dict[str, Any]:
    verdict = report.verdict
    return {
        "answer": verdict.answer,
        "function": verdict.function,
        "caller": verdict.caller,
        "summary": verdict.summary,
        "decides": verdict.decides,
    }


def _about(capture: Capture) -> Iterator[tuple[str, str]]:
    """What was traced, and when."""
    report, origin = capture.report, capture.origin
    program, _, arguments = report.target.command.partition(" ")
    yield "process", f"{program.rpartition('/')[2]} {arguments}".rstrip() + f" (pid {report.target.pid})"
    yield "window", f"{format_duration(report.window_seconds)}, {report.readings} readings"
    if origin.started:
        yield "began", datetime.fromtimestamp(origin.started, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _origin(capture: Capture) -> Iterator[tuple[str, str]]:
    """Where a report comes from, in full."""
    origin = capture.origin
    yield "command", capture.report.target.command
    yield "host", origin.host
    yield "kernel", f"{origin.kernel} {origin.machine}".strip()
    yield "tool", f"memleak-lab {origin.version}".strip()
    if origin.options:
        yield "options", ", ".join(f"{name} {value}" for name, value in origin.options.items())


def _figures(report: Report) -> Iterator[tuple[str, str]]:
    """The numbers that a reader wants first, of all call sites together."""
    held = [stack for stack in report.stacks if stack.outstanding_bytes > 0]
    outstanding = sum(stack.outstanding_bytes for stack in held)
    yield "bytes outstanding", format_size(outstanding)
    yield "a minute", format_size(outstanding / report.window_seconds * 60)
    yield "held by", f"{len({call_site(stack.frames) for stack in held}):,} call sites"
    yield "resident memory grew by", format_size(report.truth.growth)


def _account(account: Account) -> dict[str, Any]:
    """The parts in the order in which they are read: anonymous memory's own below it."""
    rows = []
    for part in account.kinds:
        if part.bytes or part.name == "anonymous":
            rows.append(_part(part, 0))
        if part.name == "swapped":
            rows += [_part(inner, 1) for inner in account.anonymous]
    return {
        "rows": rows,
        "growth": account.held_growth,
        "files": account.file_growth,
        "resident": account.resident_bytes,
        "error": account.error_bytes,
    }


def _part(part: Part, depth: int) -> dict[str, Any]:
    return {"depth": depth, "bytes": part.bytes, "meaning": part.meaning, "remedy": part.remedy}
