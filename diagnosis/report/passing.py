"""Whether what a call site takes goes again: at once, in the end, or with the start of its process behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis.report.history import FEW_FREES
from diagnosis.report.trend import FEWEST_READINGS, Trend

if TYPE_CHECKING:
    from diagnosis.report.history import Evidence, SiteHistory

# What came at once and has not come again is worth a word from here on: programs find the size of a buffer, too.
SMALLEST_ONCE_BYTES = 1 << 20

# A site that goes on taking this share of its blocks after its growth ended is at its level, as a cache that is full.
# One that is hardly called any more shows nothing.
AT_ITS_LEVEL = 0.1

# A site that frees nearly all of what it takes, and keeps less of the first two thirds of the window than a leak worth
# a name would have taken in them, keeps nothing: the rest is on its way. Service threads keep a block or two each.
PASSING_FREES = 0.8
FIRST_THIRDS = 2 / 3

# Of a leak beside blocks that pass, both of the first two thirds of the window leave this share of what the other one
# leaves. What ended in the first half of the window took no more than half as much in the second third.
EVEN_THIRDS = 0.6


def came_once(site: SiteHistory, shape: Trend, smallest: int) -> bool:
    """True for growth of the first half of the window, after which the site was hardly called: it can come again."""
    return (
        shape is Trend.ENDED
        and site.growth >= max(smallest, SMALLEST_ONCE_BYTES)
        and site.late_allocations < AT_ITS_LEVEL * site.allocations
    )


def keeps(site: SiteHistory, smallest: int) -> bool:
    """True where a site whose bytes come and go keeps some of them: as much of the first third as of the second.

    What ever comes and goes leaves less the older it is. The readings cannot tell where the last one met a large block.
    """
    second = site.kept_bytes - site.first_bytes
    return min(site.first_bytes, second) >= max(smallest / 3, EVEN_THIRDS * max(site.first_bytes, second))


def has_warmed_up(site: SiteHistory, smallest: int) -> bool:
    """True where processes that started within the window took all of it at first.

    A block that realloc makes larger is as old as it was: where many were freed, what came later does not show.
    """
    return site.growth - site.warmed_up < smallest and site.frees <= FEW_FREES * site.allocations


def passes(site: SiteHistory, evidence: Evidence, smallest: int) -> bool:
    """True where what a site takes is freed in the end: what it holds now is on its way."""
    return (
        site.frees >= PASSING_FREES * site.allocations
        and site.kept_bytes < FIRST_THIRDS * smallest
        and evidence.readings >= FEWEST_READINGS
    )
