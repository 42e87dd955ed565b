"""What a trace counted in a window, as the rule looks at it: by stack, at even distances in time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from heap_trace import MappingKind

from diagnosis.report.older import FIRST_TENTH, Freed, shares_by_size
from diagnosis.report.rounding import GLIBC, rounded_by_class
from diagnosis.trace.counts import Counts
from diagnosis.trace.mapped import HEAP_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from diagnosis.report.rounding import Blocks
    from diagnosis.report.site import CallSite
    from diagnosis.trace.snapshot import Snapshot
    from diagnosis.trace.window import Sample, Window

# A stack that takes blocks of several sizes takes most of its bytes in blocks of its mean size up to so many times.
SIZES_APART = 8

# Up to this share of frees of unknown size the live heap is known.
UNSIZED_SHARE = 0.01


@dataclass(frozen=True)
class Counted:
    """What the trace counted in a window.

    Attributes:
        window: the measurements.
        changes: what each stack did with blocks and anonymous mappings.
        site_of: the call site of a stack.
        lost: events that were not counted.
        blocks: how the allocator lays blocks out.
    """

    window: Window
    changes: Mapping[int, Counts]
    site_of: Callable[[int], CallSite]
    lost: int
    blocks: Blocks = GLIBC

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The readings at even distances in time."""
        moments = [sample.snapshot.seconds for sample in self.window.samples]
        return tuple(self.window.samples[each] for each in evenly(moments))

    @property
    def first(self) -> Snapshot:
        """The first reading."""
        return self.window.samples[0].snapshot

    @property
    def last(self) -> Snapshot:
        """The last reading."""
        return self.window.samples[-1].snapshot

    @cached_property
    def shares(self) -> dict[int, dict[int, float]]:
        """Which share of the older blocks of a size belongs to a stack that takes blocks of that size."""
        tenth = self.samples[int(FIRST_TENTH * (len(self.samples) - 1))]
        return shares_by_size(self._takers, self.older_classes(tenth.snapshot), self.older_classes(self.last))

    def older_of(self, stack: int) -> Freed:
        """Older blocks that its reallocs replaced, and its share of those of its size that were freed."""
        classes = self.older_classes(self.last)
        mine = [(share, classes[size]) for size, share in self.shares.get(stack, {}).items()]
        replaced = self.changes[stack]
        return Freed(
            replaced.replaced + round(sum(share * freed.frees for share, freed in mine)),
            replaced.replaced_bytes + round(sum(share * freed.bytes for share, freed in mine)),
        )

    @cached_property
    def mapping_stacks(self) -> frozenset[int]:
        """Stacks that map memory and take no blocks."""
        return frozenset(each.stack for each in self.window.ranges if each.kind in HEAP_KINDS)

    def files(self) -> dict[int, Counts]:
        """What each stack did with mappings of files: address space."""
        before = self.first.apart.get(MappingKind.FILE_MAPPED, {})
        after = self.last.apart.get(MappingKind.FILE_MAPPED, {})
        return {stack: counts - before.get(stack, Counts()) for stack, counts in after.items()}

    def older_bytes(self, snapshot: Snapshot) -> int:
        """Bytes of older blocks that were freed between the first reading and this one: what was asked for, probably.

        The trace knows their usable sizes.
        """
        if snapshot.older is None or self.first.older is None:
            return 0
        rounded = sum(usable.bytes - self._asked(size, usable).bytes for size, usable in self._classes(snapshot))
        return snapshot.older.bytes - self.first.older.bytes - rounded

    @property
    def older_frees(self) -> int:
        """Older blocks that were freed between the first reading and the last."""
        if self.last.older is None or self.first.older is None:
            return 0
        return self.last.older.frees - self.first.older.frees

    def older_classes(self, snapshot: Snapshot) -> dict[int, Freed]:
        """The same by the size of the block."""
        return {size: self._asked(size, usable) for size, usable in self._classes(snapshot)}

    def _classes(self, snapshot: Snapshot) -> Iterator[tuple[int, Freed]]:
        """By usable sizes."""
        pairs = zip(self.first.older_sizes, snapshot.older_sizes, strict=True)
        for size, (before, now) in enumerate(pairs):
            if now.frees > before.frees:
                yield size, Freed(now.frees - before.frees, now.bytes - before.bytes)

    def _asked(self, size: int, usable: Freed) -> Freed:
        """What was asked for of the older blocks of a size class."""
        return Freed(usable.frees, usable.bytes - round(usable.frees * self._rounded.get(size, 0.0)))

    @cached_property
    def _rounded(self) -> dict[int, float]:
        return rounded_by_class(self.blocks, self._takers.values())

    @cached_property
    def _takers(self) -> dict[int, Counts]:
        """What the stacks did that take blocks."""
        return {stack: counts for stack, counts in self.changes.items() if stack not in self.mapping_stacks}

    @property
    def overhead_growth(self) -> int:
        """By how much the allocator's own headers grew, and what it rounds up."""
        kept = (counts for counts in self._takers.values() if counts.outstanding > 0)
        new = sum(
            each.outstanding * (self.blocks.header + self.blocks.rounded(each.outstanding, each.outstanding_bytes))
            for each in kept
        )
        older, before = self.last.older, self.first.older
        if older is None or before is None:
            return round(new)
        sized = self.older_frees - older.unsized + before.unsized
        rounded = older.bytes - before.bytes - self.older_bytes(self.last)
        return round(new) - sized * self.blocks.header - rounded

    @cached_property
    def _unshared(self) -> tuple[Freed, ...]:
        """Of the older blocks that were freed, by size, those that are set against no stack."""
        shared: defaultdict[int, float] = defaultdict(float)
        for shares in self.shares.values():
            for size, share in shares.items():
                shared[size] += share
        return tuple(
            Freed(round(freed.frees * rest), round(freed.bytes * rest))
            for size, freed in self.older_classes(self.last).items()
            if (rest := 1 - shared[size]) > 0 and freed.frees
        )

    def unshared_bytes(self, stack: int) -> int:
        """Bytes of those that can have been of a stack whose blocks are of several sizes: far from its mean are few."""
        counts = self.changes[stack]
        if counts.outstanding <= 0 or counts.outstanding_bytes <= 0:
            return 0
        mean = counts.outstanding_bytes / counts.outstanding
        near = (each for each in self._unshared if each.frees)
        return sum(each.bytes for each in near if mean / SIZES_APART <= each.bytes / each.frees <= mean * SIZES_APART)

    @property
    def late_unsized(self) -> int:
        """Older blocks of unknown size that were freed in the last two thirds of the window."""
        early = self.samples[(len(self.samples) - 1) // 3].snapshot.older
        if early is None or self.last.older is None:
            return 0
        return self.last.older.unsized - early.unsized

    @property
    def live_known(self) -> bool:
        """True where the sizes of the older blocks that were freed are known."""
        older, before = self.last.older, self.first.older
        if older is None or before is None:
            return False
        frees = sum(counts.frees for counts in self.changes.values()) + older.frees - before.frees
        return older.unsized - before.unsized <= UNSIZED_SHARE * frees


def evenly(moments: Sequence[float]) -> list[int]:
    """Which readings to take so that they are at even distances: the nearest one to each of as many even moments.

    A machine that is busy takes readings late, and a trend is one in time and not in the order of readings.
    """
    first, last = moments[0], moments[-1]
    wanted = (first + (last - first) * i / (len(moments) - 1) for i in range(len(moments)))
    return [min(range(len(moments)), key=lambda each: abs(moments[each] - moment)) for moment in wanted]
