"""Is it a leak? Only where bytes keep growing and old blocks survive: who frees what he takes does not leak."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.base.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnosis.report.site import CallSite

# Below this a window's growth is not worth a name: a cache that warms up, a buffer that finds its size.
SMALLEST_LEAK_BYTES = 64 * 1024

# Fewer samples show no trend.
SAMPLES = 12

# Twice what a verdict needs, so that a sample that comes late costs nothing.
SAMPLES_PER_WINDOW = 2 * SAMPLES

# A trend is a line through the samples that rises by several times what they scatter about it. Three and a quarter let
# every leak pass that comes in four even steps or more, or beside short-lived blocks of a quarter of its growth. Of
# random walks, which drift and do not leak, they let 1 in 100 pass. tests/diagnosis/test_verdict.py tries all three.
TREND_OVER_SCATTER = 3.25

# The share of a window after which a block that is still there was not only passing through.
OLD = 2 / 3


@dataclass(frozen=True)
class SiteHistory:
    """What one call site did in a window, over all stacks that share it.

    ``outstanding`` are bytes at the samples of the window, the first one 0.
    """

    site: CallSite
    outstanding: tuple[int, ...]
    allocations: int
    frees: int
    oldest_seconds: float

    @property
    def growth(self) -> int:
        """Bytes outstanding at the end of the window."""
        return self.outstanding[-1]


@dataclass(frozen=True)
class Verdict:
    """What the diagnosis says: whether there is a leak, in which function, called from where, and one paragraph."""

    leak: bool
    function: str
    caller: str
    summary: str


def keeps_growing(outstanding: Sequence[int]) -> bool:
    """True where the straight line through the samples rises far more than they scatter about it."""
    if len(outstanding) < SAMPLES:
        return False
    times = range(len(outstanding))
    slope, start = statistics.linear_regression(times, outstanding)
    about = [held - start - slope * time for time, held in zip(times, outstanding, strict=True)]
    return slope > 0 and slope * times[-1] >= TREND_OVER_SCATTER * (max(about) - min(about))


def is_leak(site: SiteHistory, window_seconds: float) -> bool:
    """True where a site's bytes keep growing and a block of the window's first third is still there."""
    return (
        site.growth >= SMALLEST_LEAK_BYTES
        and site.oldest_seconds >= window_seconds * OLD
        and keeps_growing(site.outstanding)
    )


def judge(sites: Sequence[SiteHistory], *, window_seconds: float, resident_growth: int, lost: int) -> Verdict:
    """Name the leak, or say why there is none.

    Args:
        sites: every place that allocated in the window.
        window_seconds: how long the process was traced.
        resident_growth: bytes by which its resident memory grew meanwhile.
        lost: events that were not counted.
    """
    leaks = sorted((site for site in sites if is_leak(site, window_seconds)), key=lambda site: -site.growth)
    if leaks:
        return _leak(leaks, window_seconds, resident_growth)
    return _no_leak(sites, window_seconds, resident_growth, lost)


def _leak(leaks: Sequence[SiteHistory], window_seconds: float, resident_growth: int) -> Verdict:
    worst = leaks[0]
    called = f", called from {worst.site.caller}," if worst.site.caller else ""
    share = f", {worst.growth / resident_growth:.0%} of the growth in resident memory" if resident_growth > 0 else ""
    others = f" {len(leaks) - 1} further call sites grow as well." if len(leaks) > 1 else ""
    return Verdict(
        leak=True,
        function=worst.site.function,
        caller=worst.site.caller,
        summary=(
            f"WARNING: {worst.site.function}{called} leaks {format_size(worst.growth / window_seconds * 60)} a minute: "
            f"{worst.allocations:,} allocations against {worst.frees:,} frees in {format_duration(window_seconds)}, "
            f"{format_size(worst.growth)} outstanding{share}.{others}"
        ),
    )


def _no_leak(sites: Sequence[SiteHistory], window_seconds: float, resident_growth: int, lost: int) -> Verdict:
    allocations, frees = sum(site.allocations for site in sites), sum(site.frees for site in sites)
    window = format_duration(window_seconds)
    if not allocations:
        reasons = f"not one allocation was seen in {window}: trace for longer, or while the process works"
    else:
        most = max(sites, key=lambda site: site.growth)
        if len(most.outstanding) < SAMPLES:
            reasons = f"{window} is too short to see a trend in: trace for longer"
            return Verdict(leak=False, function="", caller="", summary=f"No leak found: {reasons}.")
        seen = "every event was counted" if not lost else f"{lost:,} events were not counted"
        held = f"{format_size(max(0, most.growth))}, is held by {most.site.function}"
        change = f"resident memory changed by {format_size(resident_growth)}"
        reasons = (
            f"{allocations:,} allocations and {frees:,} frees were seen in {window} and {seen}; no call site kept"
            f" growing (the most, {held}); {change}. A slower leak shows in a longer window"
        )
    return Verdict(leak=False, function="", caller="", summary=f"No leak found: {reasons}.")
