"""The table of call sites: what each holds, its line of source, and the whole stacks that lead to it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from diagnosis.output.html_report.frames import kinds_of, place_of
from diagnosis.output.source import source_lines
from diagnosis.report.site import call_site
from diagnosis.report.wrappers import first_own

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from diagnosis.report.report import Report, StackReport
    from diagnosis.report.site import CallSite
    from diagnosis.target.stack import Frame

    Lines = Callable[[Frame], list[tuple[int, str]]]

MOST_SITES = 50
MOST_STACKS_OF_A_SITE = 8


def call_sites(report: Report, sources: Sequence[Path] = (), traced: float | None = None) -> dict[str, Any]:
    """The sites that hold most, the largest first, and how many more there are.

    Args:
        report: whose.
        sources: see `source_lines`, as for ``traced``.
        traced: when the report was made.
    """
    members: defaultdict[CallSite, list[StackReport]] = defaultdict(list)
    for stack in report.stacks:
        if stack.outstanding_bytes > 0:
            members[call_site(stack.frames)].append(stack)
    total = sum(stack.outstanding_bytes for stacks in members.values() for stack in stacks)
    sites = sorted(members.items(), key=lambda each: -sum(stack.outstanding_bytes for stack in each[1]))
    named = report.verdict.function

    def lines_of(frame: Frame) -> list[tuple[int, str]]:
        return source_lines(frame, sources, traced)

    return {
        "rows": [_site(site, stacks, total, named, lines_of) for site, stacks in sites[:MOST_SITES]],
        "more": max(0, len(sites) - MOST_SITES),
    }


def _site(
    site: CallSite,
    stacks: Sequence[StackReport],
    total: int,
    named: str,
    lines_of: Lines,
) -> dict[str, Any]:
    largest = stacks[0]
    frame = largest.frames[first_own(largest.frames)] if largest.frames else None
    size = sum(stack.outstanding_bytes for stack in stacks)
    return {
        "function": site.function,
        "caller": site.caller,
        "named": bool(named) and site.function == named,
        "place": place_of(frame) if frame else "",
        "file": frame.file if frame else "",
        "line": frame.line if frame else 0,
        "source": [list(line) for line in lines_of(frame)] if frame else [],
        "bytes": size,
        "share": size / total,
        "allocations": sum(stack.allocations for stack in stacks),
        "frees": sum(stack.frees for stack in stacks),
        "per_minute": sum(stack.bytes_per_minute for stack in stacks),
        "oldest_seconds": max(stack.oldest_seconds for stack in stacks),
        "stacks": [_stack(stack, named) for stack in stacks[:MOST_STACKS_OF_A_SITE]],
        "more_stacks": max(0, len(stacks) - MOST_STACKS_OF_A_SITE),
    }


def _stack(stack: StackReport, named: str) -> dict[str, Any]:
    return {
        "bytes": stack.outstanding_bytes,
        "allocations": stack.allocations,
        "frees": stack.frees,
        "broken": stack.broken,
        "frames": [
            {"name": frame.name, "place": place_of(frame), "module": frame.module, "kind": kind}
            for frame, kind in zip(stack.frames, kinds_of(stack.frames, named), strict=True)
        ],
    }
