"""The memory of several processes as the machine has it: what they share counts once.

After a fork both processes have the same pages until one of them writes (copy on write), and shared memory is in each
process that maps it. The kernel tells each process's share (Pss): a page that n processes map counts one n-th for each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.target.memory import MAX_SMAPS_BYTES, Memory, Range, Use, memory_of, open_memfds, read_process, unmapped
from diagnosis.target.process import PROC
from diagnosis.target.shared_objects import SHARED_ANONYMOUS, SharedObject, is_shared_memory, read_objects
from diagnosis.target.smaps import parse_areas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from diagnosis.target.memory import Read
    from diagnosis.target.smaps import Area

__all__ = ["Share", "SmapsBudget", "add_up", "apart", "process_at", "read_share"]

# Addresses are numbers of so many bits: above them there is room for the number of a process.
_ADDRESS_BITS = 64


def apart(address: int, pid: int) -> int:
    """A number for an address of one process that is none of another's."""
    return pid << _ADDRESS_BITS | address


def process_at(address: int) -> int:
    """Whose address a number stands for that is `apart`: its pid."""
    return address >> _ADDRESS_BITS


@dataclass(frozen=True)
class Share:
    """What one of several processes holds, in bytes.

    Attributes:
        memory: as it sees it itself, pages that others map as well too. Its addresses are `apart`.
        anonymous: its share of its anonymous pages; ``swapped``, ``file`` and ``shared`` alike.
        own: anonymous memory that no other process has: what goes when it ends.
        objects: the objects behind its shared mappings, of which its share is resident.
        areas: its mappings of shared memory, and of huge pages.
        memfds: those that are open in it, see `open_memfds`.
    """

    memory: Memory
    anonymous: int
    swapped: int
    file: int
    shared: int
    own: int
    objects: Mapping[tuple[str, int], SharedObject]
    areas: tuple[Area, ...]
    memfds: Mapping[tuple[int, int], int]


@dataclass
class SmapsBudget:
    """How many bytes of text may still be read of mappings: of several processes together what one alone may have."""

    left: int = MAX_SMAPS_BYTES


def read_share(pid: int, thread: int, proc: Path = PROC, budget: SmapsBudget | None = None) -> Callable[[], Share]:
    """Read what a process holds now; what is returned makes sense of it, which takes longer.

    Args:
        pid: the process.
        thread: a thread that its memory is known by: see `Process.thread`.
        proc: where procfs is mounted.
        budget: of all that are read together; None: it is read alone.

    Raises:
        TooManyMappingsError: they have more mappings than are read.
        LabError: the process has ended, or belongs to somebody else.
    """
    budget = budget or SmapsBudget()
    read = read_process(thread, proc, budget.left)
    budget.left -= len(read.smaps)
    try:
        rollup = (read.folder / "smaps_rollup").read_bytes()
    except OSError as error:
        raise LabError(f"pid {pid} has ended", "start it again, and trace it while it runs") from error
    return lambda: _share(pid, read, rollup)


def _share(pid: int, read: Read, rollup: bytes) -> Share:
    areas = read.areas()
    known = memory_of(areas, read.status)
    (whole,) = parse_areas(rollup)
    return Share(
        memory=replace(
            known,
            ranges=tuple(_moved(each, pid) for each in known.ranges),
            # Between the three readings the process went on.
            error=known.error + abs(whole["Anonymous"] - known.anonymous),
        ),
        # What it shares is told by one reading: what it took since the other one is no part of that.
        anonymous=known.anonymous - whole["Anonymous"] + whole["Pss_Anon"],
        swapped=known.swapped - whole["Swap"] + whole["SwapPss"],
        file=whole["Pss_File"],
        shared=whole["Pss_Shmem"],
        own=sum(_own(area) for area in areas) + whole["SwapPss"],
        objects=read_objects(read.folder, areas, "Pss"),
        areas=tuple(
            replace(area, start=apart(area.start, pid), end=apart(area.end, pid))
            for area in areas
            if is_shared_memory(area) or area["Private_Hugetlb"] or area["Shared_Hugetlb"]
        ),
        memfds=open_memfds(read.folder),
    )


def _moved(part: Range, pid: int) -> Range:
    return replace(part, start=apart(part.start, pid), end=apart(part.end, pid))


def _own(area: Area) -> int:
    """Anonymous pages that no other process maps. What was read of a file is clean, and what was written is not."""
    private = area["Private_Dirty"] + (0 if area.path.startswith("/") else area["Private_Clean"])
    return min(area["Anonymous"], private)


def add_up(shares: Sequence[Share]) -> Memory:
    """All of them together. ``huge`` and ``uses`` are sums of what each sees, with what they share in each of them."""
    areas = [area for share in shares for area in share.areas]
    uses: Counter[Use] = Counter()
    for share in shares:
        uses.update(share.memory.uses)
    memfds = {file: size for share in shares for file, size in share.memfds.items()}
    return Memory(
        anonymous=sum(share.anonymous for share in shares),
        swapped=sum(share.swapped for share in shares),
        file=sum(share.file for share in shares),
        shared=sum(share.shared for share in shares),
        huge=sum(share.memory.huge for share in shares),
        hugetlb=_hugetlb(shares),
        unmapped_memfd=unmapped(memfds, areas),
        uses=uses,
        ranges=tuple(sorted((part for share in shares for part in share.memory.ranges), key=lambda part: part.start)),
        shared_ranges=tuple(sorted(_shared_ranges(shares), key=lambda part: part.start)),
        shared_objects=_objects(shares),
        error=sum(share.memory.error for share in shares),
    )


def _objects(shares: Iterable[Share]) -> dict[tuple[str, int], SharedObject]:
    found: dict[tuple[str, int], SharedObject] = {}
    for share in shares:
        for file, each in share.objects.items():
            known = found.get(file, SharedObject(0, 0))
            found[file] = SharedObject(known.resident + each.resident, max(known.held, each.held))
    return found


def _shared_ranges(shares: Sequence[Share]) -> Iterable[Range]:
    """The shared anonymous mappings of each, with all that the processes together have of what is behind them.

    The trace knows who mapped one; those who were forked since have it as well, and who touches it is no matter.
    """
    total: Counter[tuple[str, int]] = Counter()
    for share in shares:
        for area in _anonymous_objects(share):
            total[area.file] += area["Pss"]
    for share in shares:
        of_each: defaultdict[tuple[str, int], list[Area]] = defaultdict(list)
        for area in _anonymous_objects(share):
            of_each[area.file].append(area)
        for file, mapped in of_each.items():
            # Of one that was cut into several, by what is resident of each, or else by their sizes.
            weights = [area["Pss"] for area in mapped]
            weights = weights if any(weights) else [area.end - area.start for area in mapped]
            for area, weight in zip(mapped, weights, strict=True):
                yield Range(area.start, area.end, total[file] * weight // sum(weights), Use.OTHER)


def _anonymous_objects(share: Share) -> list[Area]:
    return [area for area in share.areas if area.path == SHARED_ANONYMOUS]


def _hugetlb(shares: Iterable[Share]) -> int:
    """What each has for itself of hugetlbfs, and of what several have the most that one of them has."""
    private = 0
    common: Counter[tuple[str, int]] = Counter()
    for share in shares:
        mine: Counter[tuple[str, int]] = Counter()
        for area in share.areas:
            private += area["Private_Hugetlb"]
            mine[area.file] += area["Shared_Hugetlb"]
        common |= mine
    return private + common.total()
