"""What an allocator takes for a block beside what was asked for: its own header, and what it rounds up.

The trace counts what was asked for, the kernel what was taken, and a free of an older block its usable size.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from diagnosis.target.allocator import Allocator
    from diagnosis.trace.counts import Counts

# Blocks of the families that find_families calls so are the C library's, or come from it.
_OF_THE_LIBRARY = frozenset({"C", "C++", "--allocator"})

# Up to this size classes are this far apart; above, a quarter of a power of two.
_EVEN_UP_TO, _EVEN = 128, 16


@dataclass(frozen=True)
class Blocks:
    """How an allocator lays blocks out: glibc's way is known, of others this is an estimate by jemalloc's classes.

    ``header`` is what it keeps beside the usable bytes of each.
    """

    header: int
    of_glibc: bool

    def usable(self, size: int) -> int:
        """The usable bytes of a block for which so many were asked."""
        if self.of_glibc:
            return max(24, ((size + 23) & ~15) - self.header)
        step = self._step(size)
        return max(1, -(-size // step)) * step

    def rounded(self, blocks: int, size: int) -> float:
        """By how much each of some blocks was rounded up: exact where all are of one size, as most call sites' are."""
        mean, of_several = divmod(size, blocks)
        if not of_several:
            return self.usable(mean) - mean
        return max((self._step(mean) - 1) / 2, self.usable(0) - size / blocks)

    def _step(self, size: int) -> int:
        even = self.of_glibc or size <= _EVEN_UP_TO
        return _EVEN if even else 1 << ((size - 1).bit_length() - 3)


GLIBC = Blocks(8, of_glibc=True)
OTHERS = Blocks(0, of_glibc=False)


def blocks_of(allocators: Iterable[Allocator]) -> Blocks:
    """How the blocks of a process are laid out, by the allocators that are in it."""
    known = list(allocators)
    own = all(_OF_THE_LIBRARY.issuperset(each.families) for each in known)
    headers = any(probe.probe.signature.chunk_header for each in known for probe in each.probes)
    return GLIBC if own and headers else OTHERS


def size_class(size: int) -> int:
    """The class by which heap_trace tells the sizes of older blocks apart: quarters of a power of two."""
    octave = max(size.bit_length() - 1, 0)
    return (octave << 2) + (size << 2 >> octave & 3)


def rounded_by_class(blocks: Blocks, taken: Iterable[Counts]) -> dict[int, float]:
    """By how much blocks of a size class were rounded up, going by those that stacks took in the window.

    A service in equilibrium takes what it frees: what is older was asked for like what is new.
    """
    numbers: defaultdict[int, int] = defaultdict(int)
    rounded: defaultdict[int, float] = defaultdict(float)
    for each in taken:
        if each.allocations > 0:
            by = blocks.rounded(each.allocations, each.allocated_bytes)
            found = size_class(round(each.allocated_bytes / each.allocations + by))
            numbers[found] += each.allocations
            rounded[found] += each.allocations * by
    return {found: rounded[found] / numbers[found] for found in numbers}
