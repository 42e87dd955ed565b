"""What a probe stands on: which arguments of the function it reads, and how the function gives its result."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from heap_trace._heap_trace import lib


class Kind(enum.IntEnum):
    """What a probed function does."""

    ALLOCATE = lib.HEAP_ALLOCATE
    REALLOCATE = lib.HEAP_REALLOCATE
    FREE = lib.HEAP_FREE
    RESIZE = lib.HEAP_RESIZE
    MMAP = lib.HEAP_MMAP
    MREMAP = lib.HEAP_MREMAP
    MUNMAP = lib.HEAP_MUNMAP
    DISCARD = lib.HEAP_DISCARD


# The eBPF program reads no argument beyond this one.
LAST_ARGUMENT = 5

_STORES_RESULT = 1 << 36
_EXIT_PROBED = 1 << 37
_CHUNK_HEADER = 1 << 38
_COPIES_STRING = 1 << 39
_ENCLOSES = 1 << 40

_MAPPING_ARGUMENTS = {Kind.MMAP: 4, Kind.MREMAP: 4, Kind.MUNMAP: 2}


@dataclass(frozen=True)
class Signature:
    """The signature behind a probe. Positions of arguments count from 1; 0 stands for none.

    Attributes:
        kind: what the function does. Those of mappings have the C library's signature.
        size: the argument that holds the bytes.
        count: the argument that multiplies them, as in calloc.
        pointer: the old block, the freed block, or where the result is stored.
        stores_result: as posix_memalign: the block is stored through ``pointer``, and 0 returned.
        throws: an exception may leave the function, which a return probe would be in the way of: probes on its ``ret``
            instructions stand in its place.
        chunk_header: the allocator is glibc's: the word before a block has its size.
        copies_string: as strdup: the block is a string, and no argument has its length.
        encloses: the user has named it: what it calls is its own, whichever code calls.
    """

    kind: Kind
    size: int = 0
    count: int = 0
    pointer: int = 0
    stores_result: bool = False
    throws: bool = False
    chunk_header: bool = False
    copies_string: bool = False
    encloses: bool = False

    def __post_init__(self) -> None:
        if not all(0 <= each <= LAST_ARGUMENT for each in (self.size, self.count, self.pointer)):
            raise ValueError(f"{self} reads a wrong argument: positions are 1 to {LAST_ARGUMENT}, 0 for none")

    @property
    def arguments_read(self) -> int:
        """How many of the first arguments have to be in their registers where the probe stands."""
        return max(self.size, self.count, self.pointer, _MAPPING_ARGUMENTS.get(self.kind, 0))

    @property
    def flags(self) -> int:
        """The flags of a probe's cookie: heap_trace.h."""
        return (
            _STORES_RESULT * self.stores_result
            + _EXIT_PROBED * self.throws
            + _CHUNK_HEADER * self.chunk_header
            + _COPIES_STRING * self.copies_string
            + _ENCLOSES * self.encloses
        )


@dataclass(frozen=True)
class Probe:
    """One probed function of a file. Offsets are bytes from the file's start.

    Attributes:
        signature: what the function does.
        offset: of the probed instruction.
        exits: of every ``ret`` by which the function can leave, where its signature says that it throws.
    """

    signature: Signature
    offset: int
    exits: tuple[int, ...] = ()


# What removes blocks from the table comes first; what does both comes before what only adds them.
_ATTACH_ORDER = (Kind.FREE, Kind.MUNMAP, Kind.REALLOCATE, Kind.RESIZE, Kind.MREMAP)


def attach_rank(probe: Probe) -> int:
    """Where a probe comes in the order of attaching.

    A process that runs on meanwhile would else be charged for blocks whose free was not seen.
    """
    kind = probe.signature.kind
    return _ATTACH_ORDER.index(kind) if kind in _ATTACH_ORDER else len(_ATTACH_ORDER)
