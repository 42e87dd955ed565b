"""Where the memory of a process went: its growth by kind, and of the anonymous part what the trace explains.

The kernel says by how much each kind grew and the trace says what the allocator handed out. What is left between the
two is freed memory that the allocator holds, or memory that no probe saw: the parts add up to the kernel's figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.target.memory import Use
from diagnosis.target.shared_objects import mapped_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from diagnosis.target.memory import Memory

UNSEEN_MEANING = "memory that no call of an allocator explains"

# What a program's own mapping can look like to the kernel: one with a guard page is a stack, as for a coroutine.
OWN_USES = (Use.OTHER, Use.HEAP, Use.STACKS, Use.FILES)

GLIBC_GIVES_BACK = "not a leak: glibc gives it back with malloc_trim(0), and holds less with MALLOC_ARENA_MAX=2"
OTHERS_GIVE_BACK = "not a leak: such an allocator gives it back after a while, or when it is told to purge"

LIGHT = "trace --light names the code that touches it"


@dataclass(frozen=True)
class Part:
    """A part of the growth: bytes, what they are, and what to do where they are many."""

    name: str
    bytes: int
    meaning: str
    remedy: str = ""


@dataclass(frozen=True)
class Account:
    """Growth of a process's memory in one window.

    Attributes:
        kinds: by kind, as the kernel counts it. They add up to ``growth``.
        anonymous: the parts of anonymous memory, in memory and in swap. They add up to those two kinds.
        huge_bytes: by how much the part of it in huge pages grew.
        error_bytes: how far two readings of the same moment were apart.
        resident_bytes: what was resident at the end: anonymous, file and shared.
    """

    kinds: tuple[Part, ...]
    anonymous: tuple[Part, ...]
    huge_bytes: int
    error_bytes: int
    resident_bytes: int

    @property
    def together(self) -> bool:
        """True where processes ended or have copies of what they shared: readings of resident memory miss both."""
        return any(part.name in {"copies", "ended"} for part in self.anonymous)

    @property
    def growth(self) -> int:
        """All of it."""
        return sum(part.bytes for part in self.kinds)

    @property
    def held_growth(self) -> int:
        """What of it the kernel cannot drop, as it can a file's pages: the verdict's figure."""
        return self.growth - self.file_growth

    @property
    def file_growth(self) -> int:
        """What of it is pages of files."""
        return sum(part.bytes for part in self.kinds if part.name == "file")

    @property
    def untouched_bytes(self) -> int:
        """What of the blocks taken did not make memory grow."""
        return -sum(part.bytes for part in self.anonymous if part.name == "untouched")

    @property
    def unseen(self) -> tuple[Part, ...]:
        """Growth that the kernel cannot drop and that no call of an allocator explains."""
        wanted = {"stacks", "unseen", "shared", "memfd", "hugetlb"}
        return tuple(part for part in (*self.anonymous, *self.kinds) if part.name in wanted and part.bytes > 0)


@dataclass(frozen=True)
class Traced:
    """What the trace says of the same window, in bytes.

    Attributes:
        live_growth: blocks taken and kept, less frees of older blocks.
        freed: all that was freed, of older blocks too: the allocator can hold no more freed memory than that.
        overhead: by how much the allocator's headers grew, and what it rounds up: for most allocators an estimate.
        mapped: address ranges that the program mapped in the window and that are still mapped.
        shared: those that it shares with its children.
        brk_is_free: True where freed memory lies in what :class:`~diagnosis.target.memory.Use` calls the heap (glibc);
            False for allocators that keep theirs in mappings.
    """

    live_growth: int
    freed: int
    overhead: int = 0
    mapped: tuple[tuple[int, int], ...] = ()
    shared: tuple[tuple[int, int], ...] = ()
    brk_is_free: bool = True


def account(start: Memory, end: Memory, traced: Traced) -> Account:
    """The growth between two moments."""
    return Account(
        kinds=kinds_of(start, end, traced),
        anonymous=tuple(part for part in parts_of(start, end, traced) if part.bytes),
        huge_bytes=end.huge - start.huge,
        error_bytes=start.error + end.error,
        resident_bytes=end.anonymous + end.file + end.shared,
    )


def kinds_of(start: Memory, end: Memory, traced: Traced) -> tuple[Part, ...]:
    """The growth between two moments by kind, as the kernel counts it."""
    return tuple(_kinds(start, end, end.shared_within(traced.shared)))


def _kinds(start: Memory, end: Memory, shared_mapped: int) -> Iterable[Part]:
    yield Part("anonymous", end.anonymous - start.anonymous, "anonymous memory")
    yield Part(
        "swapped",
        end.swapped - start.swapped,
        "memory in swap",
        "it is the process's all the same: the machine is short of memory",
    )
    yield Part("file", end.file - start.file, "mapped files", "the kernel drops these pages when it needs the room")
    yield Part("shared_mapped", shared_mapped, "shared mappings of the program's own (mmap)")
    shared = end.shared - start.shared - shared_mapped
    before = max(0, min(shared, mapped_in(start.shared_objects, end.shared_objects)))
    yield Part(
        "shared_before",
        before,
        "shared memory that was there before, and that the process touched for the first time",
        "the machine's memory did not grow by it",
    )
    yield Part(
        "shared",
        shared - before,
        "shared memory",
        f"System V segments (ipcs -m -p), /dev/shm, memfd or shared mappings that nobody detaches: {LIGHT}",
    )
    yield Part(
        "hugetlb",
        end.hugetlb - start.hugetlb,
        "pages of hugetlbfs",
        "resident memory does not count them: see HugePages in /proc/meminfo",
    )
    yield Part(
        "memfd",
        end.unmapped_memfd - start.unmapped_memfd,
        "open memfds that are mapped nowhere",
        f"the container's memory grows with them, resident memory does not: close() is missing. {LIGHT}",
    )


def parts_of(start: Memory, end: Memory, traced: Traced) -> Iterable[Part]:
    """The growth of a process's anonymous memory, in memory and in swap, by what the trace says of it."""
    used = {use: end.uses[use] - start.uses[use] for use in Use}
    total = end.private - start.private
    of_stacks = end.within(traced.mapped, (Use.STACKS,))
    mapped = end.within(traced.mapped, OWN_USES)
    stacks = used[Use.STACKS] - of_stacks
    of_files = end.within(traced.mapped, (Use.FILES,))
    data = used[Use.DATA] + used[Use.FILES] - of_files
    rest = total - stacks - data - mapped - traced.live_growth
    # An estimate explains what is there, and no more. Blocks in memory that was resident before need none.
    overhead = max(0, min(rest, traced.overhead))
    rest -= overhead
    yield Part("live", traced.live_growth, "blocks taken and kept, less frees of older blocks")
    yield Part(
        "overhead",
        overhead,
        "the allocator's own headers and rounding",
        "small blocks take more than they hold: glibc takes 32 bytes for one of 24 or less",
    )
    yield Part("mapped", mapped, "mappings of the program's own (mmap)")
    yield Part(
        "stacks",
        stacks,
        "thread stacks",
        f"threads that run, or that ended and are neither joined nor detached (pthread_join, pthread_detach): {LIGHT}",
    )
    yield Part("data", data, "variables of the program and its libraries")
    holds = used[Use.HEAP] if traced.brk_is_free else used[Use.HEAP] + used[Use.OTHER] - mapped + of_stacks + of_files
    # Of a heap that did not shrink, what older blocks gave back beyond what new ones took is held as well.
    holds -= min(0, traced.live_growth)
    retained = max(0, min(rest, holds, traced.freed))
    yield Part(
        "retained",
        retained,
        "freed memory that the allocator holds",
        GLIBC_GIVES_BACK if traced.brk_is_free else OTHERS_GIVE_BACK,
    )
    yield rest_of(rest - retained)


def rest_of(size: int) -> Part:
    """What is left when all that is known is taken off."""
    if size < 0:
        return Part(
            "untouched", size, "of the blocks above: not touched yet, or put into memory that was resident before"
        )
    return Part(
        "unseen",
        size,
        UNSEEN_MEANING,
        "sbrk, a system call of the program's own, or memory that was reserved or taken before and is touched only now:"
        f" {LIGHT}",
    )
