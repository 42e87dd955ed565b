"""What the memory of a process is made of, as /proc has it: by kind, and the anonymous part by what it is used for."""

from __future__ import annotations

import bisect
import enum
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.base.rights import rights_remedy
from diagnosis.base.units import KIB, MIB
from diagnosis.target.process import PROC
from diagnosis.target.procfs import status_of
from diagnosis.target.shared_objects import BLOCK_BYTES, SHARED_ANONYMOUS, read_objects
from diagnosis.target.smaps import parse_areas

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from diagnosis.target.shared_objects import SharedObject
    from diagnosis.target.smaps import Area

# glibc takes an arena's memory in heaps of this size, at multiples of it: HEAP_MAX_SIZE in malloc/arena.c.
GLIBC_HEAP_BYTES = 64 * MIB

# A thread's stack lies on pages without access. glibc and musl take 4 to 8 KiB, a program can ask for more.
LARGEST_GUARD_BYTES = MIB

_MEMFD = "/memfd:"

# What /proc says of 130,000 mappings: twice as many as Linux lets a process have, unless it is told to (Ubuntu tells it
# 1,048,576). What is made of that takes four times as much.
MAX_SMAPS_BYTES = 96 * MIB


class TooManyMappingsError(LabError):
    """What memory is used for is not told: there is more to read than is read."""


class Use(enum.StrEnum):
    """What anonymous memory is used for."""

    HEAP = "heap"  # what brk grows, and glibc's other arenas
    STACKS = "stacks"
    DATA = "data"  # written pages of programs and libraries: variables, relocations
    FILES = "files"  # those of files that hold no code
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Range:
    """An anonymous mapping: addresses, and the bytes of it that are in memory or in swap."""

    start: int
    end: int
    bytes: int
    use: Use


@dataclass(frozen=True)
class Memory:
    """Memory of one process at one moment, in bytes.

    Attributes:
        anonymous: resident pages that no file backs.
        swapped: such pages that were written to swap.
        file: resident pages of mapped files, which the kernel can drop and read again.
        shared: resident pages of shared memory: tmpfs, memfd, System V, shared anonymous mappings.
        huge: which part of ``anonymous`` lies in huge pages.
        hugetlb: pages of hugetlbfs, which resident memory does not count.
        unmapped_memfd: pages of memfds that are open and not mapped: they count for the container only.
        uses: ``anonymous`` and ``swapped`` together, by their use.
        ranges: the anonymous mappings, by rising address.
        shared_ranges: the shared anonymous ones.
        shared_objects: what is behind the mappings of shared memory, as far as it could be read.
        error: by how much two readings of the same moment differed.
    """

    anonymous: int = 0
    swapped: int = 0
    file: int = 0
    shared: int = 0
    huge: int = 0
    hugetlb: int = 0
    unmapped_memfd: int = 0
    uses: Counter[Use] = field(default_factory=Counter)
    ranges: tuple[Range, ...] = ()
    shared_ranges: tuple[Range, ...] = ()
    shared_objects: Mapping[tuple[str, int], SharedObject] = field(default_factory=dict)
    error: int = 0

    @property
    def held(self) -> int:
        """What the process holds and the kernel cannot drop: anonymous, swapped and shared memory."""
        return self.anonymous + self.swapped + self.shared + self.hugetlb + self.unmapped_memfd

    @property
    def private(self) -> int:
        """What no file and no shared memory is behind: anonymous memory, in memory and in swap."""
        return self.anonymous + self.swapped

    def within(self, parts: Iterable[tuple[int, int]], uses: Iterable[Use] = tuple(Use)) -> int:
        """Bytes of the anonymous ranges of some uses that lie in these address ranges.

        /proc tells what is resident of a mapping and not where in it: an overlap in part counts in proportion.
        """
        return _within(self.ranges, parts, frozenset(uses))

    def shared_within(self, parts: Iterable[tuple[int, int]]) -> int:
        """The same of the shared anonymous ranges."""
        return _within(self.shared_ranges, parts, frozenset(Use))


def _within(ranges: Sequence[Range], parts: Iterable[tuple[int, int]], wanted: frozenset[Use]) -> int:
    total = 0.0
    for start, end in parts:
        first = bisect.bisect_right(ranges, start, key=lambda kept: kept.end)
        for kept in ranges[first:]:
            if kept.start >= end:
                break
            if kept.use in wanted:
                overlap = min(end, kept.end) - max(start, kept.start)
                total += kept.bytes * overlap / (kept.end - kept.start)
    return round(total)


@dataclass(frozen=True)
class Read:
    """What /proc says of a process's memory at a moment, not yet looked at: see `memory_of`."""

    folder: Path
    smaps: bytes
    status: Mapping[str, int]

    def areas(self) -> list[Area]:
        """Its mappings."""
        return list(parse_areas(self.smaps))


def read_process(pid: int, proc: Path = PROC, limit: int = MAX_SMAPS_BYTES) -> Read:
    """The kernel walks the process's page tables for this: for both ends of a window, not oftener.

    Args:
        pid: the process.
        proc: where procfs is mounted.
        limit: bytes of text that are read of its mappings.

    Raises:
        TooManyMappingsError: there are more.
        LabError: the process has ended, or belongs to somebody else.
    """
    folder = proc / str(pid)
    try:
        with (folder / "smaps").open("rb") as file:
            smaps = file.read(limit + 1)
        status = _kib(status_of(folder))
    except PermissionError as error:
        raise LabError(f"the memory of pid {pid} cannot be read", rights_remedy(error)) from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise LabError(f"pid {pid} has ended", "start it again, and trace it while it runs") from error
    if "RssAnon" not in status:  # a zombie has no memory any more
        raise LabError(f"pid {pid} has ended", "start it again, and trace it while it runs")
    if len(smaps) > limit:
        raise TooManyMappingsError(
            f"pid {pid} has more mappings than are read: about 130,000 of one process, or of a group"
        )
    return Read(folder, smaps, status)


def read_memory(pid: int, proc: Path = PROC) -> Memory:
    """The memory of a process now, as costly as `read_process`.

    Raises:
        TooManyMappingsError: it has more mappings than are read.
        LabError: the process has ended, or belongs to somebody else.
    """
    read = read_process(pid, proc)
    areas = read.areas()
    return replace(
        memory_of(areas, read.status),
        unmapped_memfd=unmapped(open_memfds(read.folder), areas),
        shared_objects=read_objects(read.folder, areas),
    )


def memory_of(areas: Sequence[Area], status: Mapping[str, int]) -> Memory:
    """The memory of a process by its mappings; what of it has objects of its own is not looked at."""
    anonymous = sum(area["Anonymous"] for area in areas)
    shared = status.get("RssShmem", 0)
    ranges = tuple(_ranges(areas))
    uses: Counter[Use] = Counter()
    for part in ranges:
        uses[part.use] += part.bytes
    return Memory(
        anonymous=anonymous,
        swapped=sum(area["Swap"] for area in areas),
        file=max(0, sum(area["Rss"] for area in areas) - anonymous - shared),
        shared=shared,
        huge=sum(area["AnonHugePages"] for area in areas),
        hugetlb=sum(area["Private_Hugetlb"] + area["Shared_Hugetlb"] for area in areas),
        uses=uses,
        ranges=ranges,
        shared_ranges=tuple(
            Range(area.start, area.end, area["Rss"], Use.OTHER) for area in areas if area.path == SHARED_ANONYMOUS
        ),
        error=abs(anonymous - status["RssAnon"]),
    )


def _kib(status: Mapping[str, str]) -> dict[str, int]:
    """Sizes of /proc/PID/status, in bytes: no more than are read here, for a process can be called "x kB"."""
    return {name: int(status[name].split()[0]) * KIB for name in ("RssAnon", "RssShmem") if name in status}


def _ranges(areas: Sequence[Area]) -> Iterator[Range]:
    code = frozenset(area.path for area in areas if "x" in area.permissions and area.path.startswith("/"))
    for before, area, after in zip([None, *areas[:-1]], areas, [*areas[1:], None], strict=True):
        size = area["Anonymous"] + area["Swap"]
        anonymous = not area.path or area.path.startswith("[")
        if size or anonymous:
            yield Range(area.start, area.end, size, _use(area, before, after, code))


def _use(area: Area, before: Area | None, after: Area | None, code: frozenset[str]) -> Use:
    if area.path == "[heap]" or _is_arena(area, after):
        return Use.HEAP
    if area.path.startswith("[stack"):
        return Use.STACKS
    if area.path.startswith("/"):
        return Use.DATA if area.path in code else Use.FILES
    if before and before.permissions.startswith("---") and before.end == area.start:
        return Use.STACKS if before.end - before.start <= LARGEST_GUARD_BYTES else Use.OTHER
    if before and before.path in code and before.end == area.start:
        return Use.DATA  # what a program or library sets to zero lies behind its file
    return Use.OTHER


def _is_arena(area: Area, after: Area | None) -> bool:
    """True for a heap of glibc's: used from its start, and reserved up to its end."""
    if area.path or area.start % GLIBC_HEAP_BYTES:
        return False
    limit = area.start + GLIBC_HEAP_BYTES
    rest = after and after.start == area.end and after.permissions.startswith("---") and after.end >= limit
    return area.end == limit or (area.end < limit and bool(rest))


def open_memfds(folder: Path) -> dict[tuple[int, int], int]:
    """The bytes of memfds that are open in a process, by device and inode: names need not differ."""
    found: dict[tuple[int, int], int] = {}
    try:
        descriptors = list((folder / "fd").iterdir())
    except OSError:
        return found
    for descriptor in descriptors:
        try:
            if not str(descriptor.readlink()).startswith(_MEMFD):
                continue
            status = descriptor.stat()
        except OSError:
            continue  # closed meanwhile
        found[status.st_dev, status.st_ino] = status.st_blocks * BLOCK_BYTES
    return found


def unmapped(memfds: Mapping[tuple[int, int], int], areas: Iterable[Area]) -> int:
    """Bytes of those memfds that none of the mappings is of."""
    mapped = {area.inode for area in areas if area.path.startswith(_MEMFD)}
    return sum(size for (_, inode), size in memfds.items() if inode not in mapped)
