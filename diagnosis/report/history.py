"""What a verdict rests on: what each call site and the process did in a window."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnosis.report.site import CallSite
    from diagnosis.report.unseen import Touched, Unseen

# A process that took less than this share of what it holds after the first third of its time has warmed up.
WARMED_UP = 0.1

# Mappings of which at least this share is in memory are used, and grow with the process's memory by that share.
USED = 0.1

# Up to this share of frees against allocations nothing is passing through a site: no chance can explain its growth.
FEW_FREES = 0.1

# The live heap, or the memory of the process, grows with a leak: by this share of it at the least. Other parts shrink.
BACKING = 0.5


class Takes(enum.StrEnum):
    """What a call site takes."""

    BLOCKS = "blocks"
    MAPPINGS = "anonymous mappings"
    FILES = "file mappings"  # address space: their pages are the file's


@dataclass(frozen=True)
class SiteHistory:
    """What one call site did in a window, over all stacks that share it.

    ``outstanding`` are bytes at the readings of the window, the first one 0, less the frees of blocks from before the
    window that are of this site's kind. ``older_frees`` counts these. ``kept_bytes`` is what is still there at the end
    of the blocks taken in the first two thirds of the window, and ``late_allocations`` those of its second half.
    ``resident_bytes`` is what of its mappings is in memory at the end. ``replaced`` of the allocations were reallocs of
    blocks from before the window: ``outstanding`` has the difference, and they are neither taken nor freed.
    ``first_bytes`` are those of ``kept_bytes`` that were taken in the first third. ``fresh_bytes`` is what processes
    that started within the window held, at its end or at theirs, by thirds of their own time. ``of_several_sizes`` says
    that its blocks are not all of one, and ``unshared_bytes`` are those of older blocks that were freed, are set
    against no site and can have been of this one's sizes.
    """

    site: CallSite
    outstanding: tuple[int, ...]
    allocations: int
    frees: int
    oldest_seconds: float
    older_frees: int = 0
    takes: Takes = Takes.BLOCKS
    kept_bytes: int = 0
    late_allocations: int = 0
    resident_bytes: int = 0
    replaced: int = 0
    first_bytes: int = 0
    fresh_bytes: tuple[int, int, int] = (0, 0, 0)
    of_several_sizes: bool = False
    unshared_bytes: int = 0

    @property
    def growth(self) -> int:
        """Bytes outstanding at the end of the window."""
        return self.outstanding[-1]

    @property
    def kept(self) -> int:
        """Blocks by which the site grew."""
        return self.allocations - self.replaced - self.frees - self.older_frees

    @property
    def warmed_up(self) -> int:
        """What processes that started within the window took at first and no more: a leak takes as much later."""
        first, later = self.fresh_bytes[0], sum(self.fresh_bytes[1:])
        return first + later if later < WARMED_UP * (first + later) else max(0, first - later // 2)

    @property
    def held(self) -> int:
        """Its growth; of mappings that are hardly used, what of them is in memory."""
        used = self.takes is not Takes.MAPPINGS or self.resident_bytes >= USED * self.growth
        return self.growth if used else self.resident_bytes


def together(sites: Sequence[SiteHistory]) -> SiteHistory:
    """The sites of one function, whoever called it, as one."""
    return SiteHistory(
        sites[0].site._replace(caller=""),
        outstanding=tuple(map(sum, zip(*(each.outstanding for each in sites), strict=True))),
        allocations=sum(each.allocations for each in sites),
        frees=sum(each.frees for each in sites),
        oldest_seconds=max(each.oldest_seconds for each in sites),
        older_frees=sum(each.older_frees for each in sites),
        takes=sites[0].takes,
        kept_bytes=sum(each.kept_bytes for each in sites),
        late_allocations=sum(each.late_allocations for each in sites),
        resident_bytes=sum(each.resident_bytes for each in sites),
        replaced=sum(each.replaced for each in sites),
        first_bytes=sum(each.first_bytes for each in sites),
        of_several_sizes=any(each.of_several_sizes for each in sites),
        unshared_bytes=max(each.unshared_bytes for each in sites),
        fresh_bytes=(
            sum(each.fresh_bytes[0] for each in sites),
            sum(each.fresh_bytes[1] for each in sites),
            sum(each.fresh_bytes[2] for each in sites),
        ),
    )


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on.

    Attributes:
        seconds: how long the window was.
        sites: every place that allocated in it.
        live: bytes of the live heap at the readings, less those at the first: everything taken less everything freed.
        live_known: False where frees of older blocks have unknown sizes: ``live`` then is too large.
        memory: bytes that the process holds at the readings, less those at the first.
        unseen: growth that no allocator call explains.
        untouched_bytes: what was taken and did not make memory grow, as far as there is an account.
        touched: who touched new memory first, most first, as far as page faults were sampled.
        lost: events that were not counted.
        harmless: of these, blocks that found no room and were not freed: their frees would be frees of older blocks.
        discarded: of these, heaps that were destroyed with all their blocks.
        older_frees: frees of blocks from before the window, whoever took these.
        late_unsized: how many of those, of unknown size, were freed in the last two thirds of the window: what was on
            its way when it began is gone by then.
    """

    seconds: float
    sites: Sequence[SiteHistory]
    live: Sequence[int]
    memory: Sequence[int]
    live_known: bool = True
    unseen: Sequence[Unseen] = ()
    untouched_bytes: int = 0
    touched: Sequence[Touched] = ()
    lost: int = 0
    harmless: int = 0
    discarded: int = 0
    older_frees: int = 0
    late_unsized: int = 0

    @property
    def readings(self) -> int:
        """How many readings there are."""
        return len(self.memory)

    def doubtful_for(self, site: SiteHistory) -> int:
        """Lost events that can hide frees of a site's blocks.

        Blocks that went with their heap leave memory that is handed out again, which counts them as freed, or that is
        given back. Those of a site of which none was, and with which the memory of the process grew, were not among
        them.
        """
        kept = site.frees <= FEW_FREES * site.allocations and self.memory_growth >= BACKING * site.growth
        return self.doubtful - self.discarded if kept else self.doubtful

    @property
    def doubtful(self) -> int:
        """Lost events that can hide a free, or a leak."""
        return self.lost - self.harmless

    @property
    def memory_growth(self) -> int:
        """Bytes by which the process grew."""
        return self.memory[-1] - self.memory[0]

    @property
    def live_growth(self) -> int:
        """Bytes by which the live heap grew."""
        return self.live[-1] - self.live[0]
