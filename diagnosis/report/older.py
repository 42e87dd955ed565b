"""Frees of blocks from before the trace: which of the call sites that take now took those as well.

Who took an old block is not known, only its size and who freed it. A service in equilibrium frees old blocks of the
sizes that it takes: what a stack takes is set against the old blocks of its size, shared with all stacks of that size,
those first that replace their blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diagnosis.trace.counts import Counts

# A block's usable size is its requested one rounded up: to 16 bytes and 8 more in glibc, by up to an eighth elsewhere.
ROUNDED_BYTES = 24
ROUNDED_SHARE = 1 / 8

# Old blocks of which this share was freed in this share of the window were on their way when it began: they are those
# of stacks that free what they take, and not of one whose blocks all outlive the window.
IN_FLIGHT = 0.9
FIRST_TENTH = 0.1
FEW_FREES = 0.1


@dataclass(frozen=True)
class Freed:
    """Old blocks that were freed: how many, and their bytes."""

    frees: int = 0
    bytes: int = 0


def share_out(grown: Mapping[int, Counts], freed: Mapping[int, Freed]) -> dict[int, dict[int, float]]:
    """Which share of the old blocks freed in one way belongs to which stack.

    First come the stacks that free blocks of the window, too: in equilibrium they free as many old ones as they hold at
    its end. What is left is shared by those that free none: they may be in equilibrium, with blocks that outlive the
    window.

    Args:
        grown: what each stack took and kept in the window.
        freed: old blocks by the stack that freed them, or by any other way that tells their sizes apart.

    Returns:
        For each stack the shares, by the key of ``freed``. The shares of one key add up to 1 at the most: no stack is
        given more old blocks than it took new ones.
    """
    shares: dict[int, dict[int, float]] = {}
    for key, old in freed.items():
        if not old.frees:
            continue
        alike = {
            stack: counts
            for stack, counts in grown.items()
            if counts.outstanding > 0
            and counts.outstanding_bytes > 0  # blocks of no bytes share in none
            and _alike(counts.outstanding_bytes / counts.outstanding, old.bytes / old.frees)
        }
        churning = {stack: counts for stack, counts in alike.items() if _frees_some(counts)}
        keeping = {stack: counts for stack, counts in alike.items() if stack not in churning}
        # Of those that replace their blocks the count says how many old ones were theirs: an old block's bytes are the
        # usable ones, which would leave a part of each to others.
        first = min(1.0, sum(counts.outstanding for counts in churning.values()) / old.frees)
        held = sum(counts.outstanding_bytes for counts in keeping.values())
        rest = min(1.0 - first, held / old.bytes) if old.bytes else 0.0
        for group, scale in ((churning, first), (keeping, rest)):
            total = sum(counts.outstanding_bytes for counts in group.values())
            for stack, counts in group.items():
                if share := scale * counts.outstanding_bytes / total:
                    shares.setdefault(stack, {})[key] = share
    return shares


def shares_by_size(
    grown: Mapping[int, Counts], early: Mapping[int, Freed], freed: Mapping[int, Freed]
) -> dict[int, dict[int, float]]:
    """The same by the size of the block, where it is known when old blocks were freed.

    Args:
        grown: what each stack took and kept in the window.
        early: old blocks that were freed in the first tenth of the window, by size class.
        freed: all that were freed in it.
    """
    in_flight = {size: old for size, old in freed.items() if early.get(size, Freed()).frees >= IN_FLIGHT * old.frees}
    shares = share_out(grown, {size: old for size, old in freed.items() if size not in in_flight})
    churning = {stack: counts for stack, counts in grown.items() if _frees_some(counts)}
    for stack, more in share_out(churning, in_flight).items():
        shares.setdefault(stack, {}).update(more)
    return shares


def _frees_some(counts: Counts) -> bool:
    """True for a stack whose blocks come and go: it had some when the window began."""
    return counts.frees > FEW_FREES * counts.allocations


def _alike(taken: float, freed: float) -> bool:
    """True where a block of the one mean size can be a block of the other."""
    return abs(taken - freed) <= max(ROUNDED_BYTES, ROUNDED_SHARE * max(taken, freed))
