"""The verdict of a window in which nothing leaks, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis.base.units import format_change, format_count, format_duration, format_size
from diagnosis.report.history import BACKING, Takes
from diagnosis.report.phrases import name_parts, not_counted, subject
from diagnosis.report.trend import FEWEST_READINGS, Trend, trend
from diagnosis.report.verdict import SMALLEST_LEAK_BYTES

if TYPE_CHECKING:
    from diagnosis.report.account import Account
    from diagnosis.report.history import Evidence


def all_clear(evidence: Evidence, account: Account | None) -> str:
    """What was seen in the window, and where memory went."""
    seconds = format_duration(evidence.seconds)
    allocations = sum(site.allocations for site in evidence.sites)
    frees = sum(site.frees for site in evidence.sites)
    older = evidence.older_frees
    if not allocations:
        seen = (
            f"not one allocation{_of_older(older)} was seen in {seconds}: trace for longer, or while the process works"
        )
        if evidence.lost:
            seen += f"; {not_counted(evidence)}"
    else:
        lost = not_counted(evidence) if evidence.lost else "every event was counted"
        freed = format_count(frees + older, "free") + (f", {older:,} of them of older blocks," if older else "")
        seen = f"{format_count(allocations, 'allocation')} and {freed} were seen in {seconds} and {lost};"
        seen += f" {_most(evidence)}"
        if evidence.readings < FEWEST_READINGS:
            seen += f", in {evidence.readings} readings only"
    growth = account.held_growth if account and account.together else evidence.memory_growth
    explained = "; ".join(name_parts(account, growth)) if account else ""
    changed = format_change("memory", growth) + (f" ({explained})" if explained else "")
    return f"No leak found: {seen}; {changed}. A slower leak shows in a longer window."


def _of_older(frees: int) -> str:
    return f", and {format_count(frees, 'free')} of older blocks," if frees else ""


def _most(evidence: Evidence) -> str:
    most = max(evidence.sites, key=lambda site: site.growth)
    none = "no call site kept growing"
    if most.growth <= 0:
        return none
    if most.warmed_up >= BACKING * most.growth:
        return f"{none} ({subject(most)} took {format_size(most.warmed_up)} in processes that started and warmed up)"
    if most.takes is Takes.BLOCKS and trend(most.outstanding) is Trend.STEADY and most.growth >= SMALLEST_LEAK_BYTES:
        return f"{subject(most)} took {format_size(most.growth)} and kept it, while others gave back as much"
    of = " of address space" if most.takes is Takes.FILES else ""
    files = ", mappings of files" if most.takes is Takes.FILES else ""
    ended = ", which no longer grew at the end" if trend(most.outstanding) is Trend.ENDED else ""
    return f"{none} (the most, {format_size(most.growth)}{of}{files}, is held by {most.site.function}{ended})"
