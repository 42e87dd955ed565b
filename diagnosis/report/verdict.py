"""Is it a leak? Three answers, from what the trace counted and what the kernel knows.

*Leak*: a call site keeps growing, its old blocks survive, and the live heap or the memory of the process grows with it.
*Growing*: something grew, and it cannot be said that it will go on; the verdict says what would decide.
*No leak*: growth is absent or explained, and nothing that matters was lost.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.report.history import BACKING, FEW_FREES, USED, Takes, together
from diagnosis.report.passing import SMALLEST_ONCE_BYTES, came_once, has_warmed_up, keeps, passes
from diagnosis.report.trend import (
    FEWEST_READINGS,
    OPEN,
    SELDOM_CHANCE,
    UNLIKELY_CHANCE,
    Trend,
    certainty,
    chance,
    deepest_fall,
    trend,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnosis.report.history import Evidence, SiteHistory
    from diagnosis.report.unseen import Unseen

# Twice what a verdict needs, so that a reading that comes late costs nothing.
SAMPLES_PER_WINDOW = 2 * FEWEST_READINGS

# Below this a window's growth is not worth a name: a cache that warms up, a buffer that finds its size.
SMALLEST_LEAK_BYTES = 64 * 1024

# Growth that no allocator call explains is worth a word from here on: the kernel itself counts in batches of pages.
SMALLEST_UNEXPLAINED_BYTES = 1 << 20

# Growth of which less than this share is unexplained is explained.
UNEXPLAINED_SHARE = 0.05

# The share of a window after which a block that is still there was not only passing through.
OLD = 2 / 3

# Nor can it, without older frees, where no reading falls below the ones before by this share of the growth: realloc
# frees what it moves.
FALLS = 0.1

# Lost events are no matter where they could be the frees of up to this share of the blocks that a site keeps, or are up
# to this share of all.
LOST_OF_THE_KEPT = 0.1
LOST_SHARE = 0.01

# A caller that brings this share of what a function leaks is named with it.
LEAST_OF_A_CALLER = 0.5

# Sites that each grow by less than is worth a name are looked at down to this share of it, and named together.
SMALLER = 1 / 16


class Answer(enum.StrEnum):
    """The three verdicts."""

    LEAK = "leak"
    GROWING = "growing"
    NO_LEAK = "no leak"


class Doubt(enum.StrEnum):
    """Why a growth is not called a leak."""

    FEW_READINGS = "few readings"
    STEPS = "steps"
    LATE = "late"
    SLOWING = "slowing"
    ONCE = "once"
    YOUNG = "young"
    CHANCE = "chance"
    OTHER_SIZES = "other sizes"
    UNSIZED = "unsized"
    NOT_RESIDENT = "not resident"
    LOST = "lost"
    FRESH = "fresh"
    SMALL = "small"


@dataclass(frozen=True)
class Judged:
    """What the rule says of one site: ``doubt`` is None for a leak."""

    site: SiteHistory
    trend: Trend
    doubt: Doubt | None


@dataclass(frozen=True)
class Finding:
    """What the rule says of a window, before it is put into words.

    ``judged`` are the sites that grow, the worst first; ``unseen`` the growth beside them that no site explains.
    ``heap`` says that the live heap grew, and no site of it.
    """

    answer: Answer
    judged: tuple[Judged, ...]
    unseen: tuple[Unseen, ...] = ()
    heap: bool = False

    @property
    def largest(self) -> Judged:
        """Of the sites that grow, the one that holds the most: not always a leak, where there are leaks."""
        return max(self.judged, key=lambda each: each.site.held)


def is_backed(site: SiteHistory, evidence: Evidence) -> bool:
    """True where the live heap, or the memory of the process, grew with the site."""
    needed = site.growth * BACKING
    if evidence.live_known and site.takes is Takes.BLOCKS and evidence.live_growth >= needed:
        return True
    if site.takes is Takes.MAPPINGS and site.resident_bytes >= USED * site.growth:
        needed = min(needed, site.resident_bytes * BACKING)
    return evidence.memory_growth >= needed


def judge_site(site: SiteHistory, evidence: Evidence, smallest: int = SMALLEST_LEAK_BYTES) -> Judged | None:
    """The rule for one site; None where it does not grow, or what it took is explained."""
    if site.growth < smallest:
        return None
    shape = trend(site.outstanding)
    open_ = shape in OPEN or came_once(site, shape, smallest)
    if not open_ and shape is not Trend.NONE and keeps(site, smallest):
        open_, shape = True, Trend.PASSING
    if not open_ or passes(site, evidence, smallest) or has_warmed_up(site, smallest):
        return None
    # Blocks often come in batches, which makes counts less certain than they look: the series has to agree.
    certain = certainty(site.outstanding)
    if site.older_frees:
        certain = min(certain, chance(site.allocations - site.replaced - site.frees, site.older_frees))
    few = FEW_FREES * site.allocations
    falls = deepest_fall(site.outstanding) > FALLS * site.growth
    by_chance = certain < UNLIKELY_CHANCE and (site.older_frees > few or (site.frees > few and falls))
    if by_chance and site.older_frees > few and certain < SELDOM_CHANCE:
        return None  # as much is freed as is taken: an equilibrium, whose ups and downs are those of chance
    backed = is_backed(site, evidence)
    if site.takes is Takes.FILES or (not backed and site.takes is Takes.BLOCKS):
        return None  # what it took, others gave back
    return Judged(site, shape, _doubt(site, shape, evidence, by_chance=by_chance, backed=backed))


_DOUBTS = {
    Trend.FEW: Doubt.FEW_READINGS,
    Trend.STEPS: Doubt.STEPS,
    Trend.LATE: Doubt.LATE,
    Trend.SLOWING: Doubt.SLOWING,
    Trend.ENDED: Doubt.ONCE,
    Trend.PASSING: Doubt.CHANCE,
}


def _doubt(site: SiteHistory, shape: Trend, evidence: Evidence, *, by_chance: bool, backed: bool) -> Doubt | None:
    """The first reason not to call it a leak."""
    # It takes blocks of many sizes, and many older ones that are nobody's were freed: they may be its own.
    of_many_sizes = site.of_several_sizes or site.older_frees > FEW_FREES * site.allocations
    unsized = not evidence.live_known and evidence.late_unsized >= BACKING * site.kept
    reasons = (
        (not backed, Doubt.NOT_RESIDENT),
        (site.warmed_up >= BACKING * site.growth, Doubt.FRESH),
        (shape is not Trend.STEADY, _DOUBTS.get(shape)),
        (site.oldest_seconds < evidence.seconds * OLD, Doubt.YOUNG),
        (by_chance, Doubt.CHANCE),
        (of_many_sizes and site.unshared_bytes >= BACKING * site.growth, Doubt.OTHER_SIZES),
        (unsized and site.takes is Takes.BLOCKS, Doubt.UNSIZED),
        (evidence.doubtful_for(site) > max(1, LOST_OF_THE_KEPT * site.kept), Doubt.LOST),
    )
    return next((doubt for holds, doubt in reasons if holds), None)


def find(evidence: Evidence, smallest: int = SMALLEST_LEAK_BYTES) -> Finding:
    """Hold the rule against a window.

    Args:
        evidence: what was counted.
        smallest: growth in bytes that is worth a name.
    """
    judged = _by_function(
        [each for site in evidence.sites if (each := judge_site(site, evidence, smallest))], evidence, smallest
    )
    judged.sort(key=lambda each: (each.doubt is not None, -each.site.held))
    worth = max(SMALLEST_UNEXPLAINED_BYTES, smallest, UNEXPLAINED_SHARE * evidence.memory_growth)
    unseen = tuple(part for part in evidence.unseen if part.bytes >= worth and _goes_on(part, evidence))
    if judged and judged[0].doubt is None:
        return Finding(Answer.LEAK, tuple(judged), unseen)
    if judged or unseen or _lost_matters(evidence, smallest):
        return Finding(Answer.GROWING, tuple(judged), unseen)
    small = _small_ones(evidence, smallest)
    if small:
        return Finding(Answer.GROWING, small)
    heap = _heap_grows(evidence, smallest)
    return Finding(Answer.GROWING if heap else Answer.NO_LEAK, (), heap=heap)


def _by_function(judged: Sequence[Judged], evidence: Evidence, smallest: int) -> list[Judged]:
    """The same with one leak for each function whose callers have less than half of it each: none of them is to blame.

    Callers of which none is worth a name can be a leak together.
    """
    leaks: defaultdict[tuple[str, Takes], list[SiteHistory]] = defaultdict(list)
    small: defaultdict[tuple[str, Takes], list[SiteHistory]] = defaultdict(list)
    for each in judged:
        if each.doubt is None:
            leaks[each.site.site.function, each.site.takes].append(each.site)
    for site in evidence.sites:
        if 0 < site.growth < smallest:
            small[site.site.function, site.takes].append(site)
    found = list(judged)
    for key in {**leaks, **small}:
        sites = leaks[key] + small[key]
        merged = judge_site(together(sites), evidence, smallest) if len(sites) > 1 else None
        most = max(site.growth for site in leaks[key]) if leaks[key] else 0
        if merged and merged.doubt is None and most < LEAST_OF_A_CALLER * merged.site.growth:
            found = [each for each in found if each.doubt or (each.site.site.function, each.site.takes) != key]
            found.append(merged)
    return found


def _goes_on(part: Unseen, evidence: Evidence) -> bool:
    """True for growth that can go on: of the whole process, or of this part where it has readings of its own."""
    return not part.resident or any(trend(each) in OPEN for each in (evidence.memory, part.readings) if each)


def _small_ones(evidence: Evidence, smallest: int) -> tuple[Judged, ...]:
    """Sites of which none is worth a name, and that would be leaks together: a parser's, or of code put in line."""
    unnamed = (site for site in evidence.sites if site.growth < smallest)
    found = [judge_site(site, evidence, round(SMALLER * smallest)) for site in unnamed]
    small = [Judged(each.site, each.trend, Doubt.SMALL) for each in found if each and each.doubt is None]
    together = sum(each.site.growth for each in small)
    if together < max(SMALLEST_ONCE_BYTES, smallest) or evidence.memory_growth < BACKING * together:
        return ()
    return tuple(sorted(small, key=lambda each: -each.site.growth))


def _heap_grows(evidence: Evidence, smallest: int) -> bool:
    """True where the live heap and memory grow steadily, more than by chance, and no site does.

    Whose the older blocks of a size were that several sites take is an estimate; what they come to in all is counted.
    """
    heap = [site for site in evidence.sites if site.takes is not Takes.FILES]
    seen = sum(site.growth for site in heap if site.growth > 0 and trend(site.outstanding) in OPEN)
    steady = all(trend(each) is Trend.STEADY and each[-1] >= smallest for each in (evidence.live, evidence.memory))
    if not evidence.live_known or not steady or seen >= BACKING * evidence.live_growth:
        return False
    kept = sum(site.allocations - site.replaced - site.frees for site in heap)
    return min(certainty(evidence.live), chance(kept, evidence.older_frees)) >= UNLIKELY_CHANCE


def _lost_matters(evidence: Evidence, smallest: int) -> bool:
    """True where the events that were lost could have held a leak."""
    taken = sum(site.allocations for site in evidence.sites)
    return evidence.doubtful > LOST_SHARE * taken and evidence.memory_growth >= smallest
