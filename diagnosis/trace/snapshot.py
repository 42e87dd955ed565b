"""What a trace had counted by a moment, and what of it still lives."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from diagnosis.trace.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heap_trace import MappingKind, Older, SizeClass

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class Snapshot:
    """What every stack had taken and given back by a moment, in seconds of the monotonic clock.

    Attributes:
        counts: heap blocks and anonymous mappings, by stack.
        older: frees of blocks from before the trace, all together; None where it cannot be known.
        older_sizes: the same by size class: see `heap_trace.HeapTrace.older_sizes`.
        untracked: blocks whose free will not be known, and their bytes: they are among ``counts``.
        apart: mapped files and reservations, by stack: address space, not memory.
    """

    seconds: float
    counts: Mapping[int, Counts]
    older: Older | None = None
    older_sizes: tuple[SizeClass, ...] = ()
    untracked: tuple[int, int] = (0, 0)
    apart: Mapping[MappingKind, Mapping[int, Counts]] = field(default_factory=dict)

    def since(self, earlier: Snapshot) -> dict[int, Counts]:
        """What each stack did between two snapshots: stacks that did nothing are left out."""
        changes = {stack: counts - earlier.counts.get(stack, Counts()) for stack, counts in self.counts.items()}
        return {stack: counts for stack, counts in changes.items() if counts.allocations or counts.frees}

    def sharing(self, earlier: Snapshot) -> Snapshot:
        """The same, with the earlier one's counts of the stacks that did nothing since.

        Most do nothing from one sample to the next, and the counts of each are 300 bytes.
        """
        apart = {kind: _sharing(counts, earlier.apart.get(kind, {})) for kind, counts in self.apart.items()}
        return replace(self, counts=_sharing(self.counts, earlier.counts), apart=apart)


def _sharing(counts: Mapping[int, Counts], earlier: Mapping[int, Counts]) -> dict[int, Counts]:
    return {stack: same if (same := earlier.get(stack)) == each else each for stack, each in counts.items()}


@dataclass(frozen=True)
class Survivors:
    """The blocks of one stack that were taken in a window and still live.

    ``oldest_seconds`` is the age of the one that was born first, also where realloc has moved it since;
    ``third_blocks`` and ``third_bytes`` tell them by the third of the window in which they were born; of a process that
    started within the window, by the third of its own time in it. ``fresh_bytes`` are those of such processes.
    """

    blocks: int
    bytes: int
    oldest_seconds: float
    third_blocks: tuple[int, ...] = (0, 0, 0)
    third_bytes: tuple[int, ...] = (0, 0, 0)
    fresh_bytes: tuple[int, ...] = (0, 0, 0)


def since_age(since_ns: int, now_ns: int) -> float:
    """The age, in seconds, of a block that is older than the time asked about: at least that."""
    return (now_ns - since_ns) / NANOSECONDS


def with_mapping(heap: Survivors | None, size: int, time_ns: int, since_ns: int, now_ns: int) -> Survivors:
    """A stack's survivors with one mapping more."""
    kept = heap or Survivors(0, 0, 0.0)
    third = min(2, (time_ns - since_ns) * 3 // max(1, now_ns - since_ns))
    blocks, sizes = list(kept.third_blocks), list(kept.third_bytes)
    blocks[third] += 1
    sizes[third] += size
    oldest = max(kept.oldest_seconds, (now_ns - time_ns) / NANOSECONDS)
    return Survivors(kept.blocks + 1, kept.bytes + size, oldest, tuple(blocks), tuple(sizes))
