"""Where the memory of several processes went: the accounts of each, and what they have in common.

Each is accounted for as it sees itself, with the pages that others map as well. The kernel's figure of all together has
such pages once. The difference between the two is copies of pages that were shared since a fork, what processes brought
that came, and what went with those that ended: parts of their own, so that all add up to the kernel's figure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from heap_trace import Older, SizeClass

from diagnosis.report.account import Account, Part, kinds_of, parts_of, rest_of
from diagnosis.report.counted import Counted
from diagnosis.report.evidence import traced
from diagnosis.target.common_memory import process_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from diagnosis.report.account import Traced
    from diagnosis.trace.footprints import Footprints, Stay
    from diagnosis.trace.mapped import MappedRange
    from diagnosis.trace.snapshot import Snapshot

# Of one process more than this is unexplained, or not touched, by itself. What is less is summed up before it is said,
# as its memory and its counts are read some milliseconds apart: it is as often too much as too little.
SMALLEST_OF_ONE_BYTES = 1 << 20

# What of a process that started within the window is how it starts, and not how it goes on.
_OF_A_START = frozenset({"stacks", "unseen"})

_ORDER = (
    *("live", "overhead", "mapped", "stacks", "data"),
    *("copies", "started", "ended", "retained", "untouched", "unseen"),
)


def account_of_group(footprints: Footprints, counted: Counted) -> Account:
    """The growth of a group's memory in a window.

    Args:
        footprints: what its processes held at both ends.
        counted: what their traces counted, all together.
    """
    start, end = footprints.start, footprints.end
    parts = [*_of_each(footprints, counted), *_in_common(footprints, counted)]
    # Accounts that are next to even are: what of one is missing by the moment of its reading, another has too much.
    small = [part for part in parts if part.name in {"untouched", "unseen"} and abs(part.bytes) < SMALLEST_OF_ONE_BYTES]
    parts = [*(part for part in parts if part not in small), rest_of(sum(part.bytes for part in small))]
    return Account(
        kinds=kinds_of(start, end, traced(counted)),
        anonymous=_by_name(parts),
        huge_bytes=end.huge - start.huge,
        error_bytes=start.error + end.error,
        resident_bytes=end.anonymous + end.file + end.shared,
    )


def _by_name(parts: Iterable[Part]) -> tuple[Part, ...]:
    sums: dict[str, Part] = {}
    for part in parts:
        known = sums.get(part.name)
        sums[part.name] = replace(part, bytes=part.bytes + known.bytes) if known else part
    return tuple(sums[name] for name in _ORDER if name in sums and sums[name].bytes)


def _of_each(footprints: Footprints, counted: Counted) -> Iterable[Part]:
    """The parts of the processes that are there at the end."""
    for stay in footprints.stays:
        for part in parts_of(stay.start.share.memory, stay.end.share.memory, _traced_of(stay, counted)):
            yield _started(part.bytes) if stay.fresh and part.name in _OF_A_START else part


def _in_common(footprints: Footprints, counted: Counted) -> Iterable[Part]:
    """What is not of one process that is there at the end."""
    stays, gone = footprints.stays, footprints.gone
    grown = footprints.end.private - footprints.start.private
    of_each = sum(stay.end.share.memory.private - stay.start.share.memory.private for stay in stays)
    brought = sum(stay.start.share.own for stay in stays if stay.fresh)
    copies = grown - of_each - brought + gone.own
    kept = _traced(counted, *gone.counted, ()).live_growth
    # Pages that only processes shared that have all ended went with them: none of them had these to itself.
    last_shared = min(0, copies) if gone.processes else 0
    yield Part(
        "copies",
        copies - last_shared,
        "copies of pages that processes had shared since a fork",
        "a process that writes to such a page gets a copy: no call allocates it, and each has no more of them than the"
        " parent held at the fork",
    )
    yield _started(brought)
    yield Part("live", kept, "blocks taken and kept, less frees of older blocks")
    yield Part(
        "ended",
        last_shared - gone.own - kept,
        f"went with {gone.processes:,} {'process' if gone.processes == 1 else 'processes'} that ended",
        "of the blocks above, those that they held when they ended; and what they had when the window began",
    )


def _started(size: int) -> Part:
    return Part(
        "started",
        size,
        "memory of processes that started in the window, from before they were traced or explained by no call",
        "a trace of one of them says whether that goes on",
    )


def _traced_of(stay: Stay, counted: Counted) -> Traced:
    ranges = tuple(each for each in counted.window.ranges if process_at(each.start) == stay.pid)
    return _traced(counted, stay.start.counted, stay.end.counted, ranges)


def _traced(counted: Counted, first: Snapshot, last: Snapshot, ranges: tuple[MappedRange, ...]) -> Traced:
    """What the traces of some of the processes say."""
    if last.older_sizes and not first.older_sizes:
        first = replace(first, older=Older(), older_sizes=(SizeClass(0, 0),) * len(last.older_sizes))
    samples = counted.window.samples
    ends = (replace(samples[0], snapshot=first), replace(samples[-1], snapshot=last))
    # Whoever maps memory: what a process mapped that has ended, or unmapped, is in no range.
    changes = {stack: counts for stack, counts in last.since(first).items() if stack not in counted.mapping_stacks}
    window = replace(counted.window, samples=ends, ranges=ranges)
    return traced(Counted(window, changes, counted.site_of, lost=0, blocks=counted.blocks))
