"""The records of what was counted, as the loader reads them back."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from heap_trace._heap_trace import lib
from heap_trace.unwind import Ending

if TYPE_CHECKING:
    from collections.abc import Iterator

_FRAMES_HEADER = struct.Struct("=QIIII")  # struct heap_frames before its frames
_WORD = struct.calcsize("=Q")


class Lost(enum.IntEnum):
    """Why an event was not counted, or not in full: heap_trace.h has a line on each."""

    THREAD = lib.HEAP_LOST_THREAD
    RETURN = lib.HEAP_LOST_RETURN
    NESTED = lib.HEAP_LOST_NESTED
    DECLINED = lib.HEAP_LOST_DECLINED
    READ = lib.HEAP_LOST_READ
    BLOCKS = lib.HEAP_LOST_BLOCKS
    FREE = lib.HEAP_LOST_FREE
    STACK = lib.HEAP_LOST_STACK
    STACKS = lib.HEAP_LOST_STACKS
    FRAMES = lib.HEAP_LOST_FRAMES
    MAPPING = lib.HEAP_LOST_MAPPING
    OLDER = lib.HEAP_LOST_OLDER
    DISCARDED = lib.HEAP_LOST_DISCARDED


class MappingKind(enum.IntEnum):
    """What happened to a range of addresses: heap_trace.h has a line on each."""

    MAPPED = lib.HEAP_MAPPED
    SHARED = lib.HEAP_SHARED
    RESERVED = lib.HEAP_RESERVED
    FILE_MAPPED = lib.HEAP_FILE_MAPPED
    UNMAPPED = lib.HEAP_UNMAPPED
    RESTORED = lib.HEAP_RESTORED
    MOVED = lib.HEAP_MOVED


@dataclass(frozen=True)
class Counters:
    """What one call stack allocated and what of it was freed.

    ``untracked`` are those of the allocations whose free will not be known: the table of blocks was full.
    ``replaced`` are reallocs of a block from before the trace, of ``replaced_bytes`` where its size is known.
    """

    allocations: int
    allocated_bytes: int
    frees: int
    freed_bytes: int
    untracked: int
    untracked_bytes: int
    replaced: int
    replaced_bytes: int


class PythonEnding(enum.IntEnum):
    """How the frames of Python functions ended: only WHOLE has all of them."""

    NONE = lib.HEAP_PYTHON_NONE
    WHOLE = lib.HEAP_PYTHON_WHOLE
    UNREADABLE = lib.HEAP_PYTHON_UNREADABLE
    TOO_DEEP = lib.HEAP_PYTHON_TOO_DEEP


class PythonCall(NamedTuple):
    """One Python function that runs.

    Attributes:
        code: the address of its code object; 0 for a mark that C called the function before it.
        offset: of the instruction, in bytes from there, 32 bits without a sign.
        called_by_c: the interpreter runs it in a native frame of its own, and those before it in the same.
    """

    code: int
    offset: int
    called_by_c: bool


@dataclass(frozen=True)
class Stack:
    """One call stack: return addresses, innermost first, and how it ended; the same of Python functions."""

    frames: tuple[int, ...]
    ending: Ending
    python: tuple[PythonCall, ...] = ()
    python_ending: PythonEnding = PythonEnding.NONE


@dataclass(frozen=True)
class Survivors:
    """The live blocks of one stack that were taken in a time, and their birth by thirds of it.

    ``oldest_ns`` is the earliest birth, in ns of CLOCK_MONOTONIC; 0 where realloc moved a block from before the trace.
    """

    blocks: int
    bytes: int
    oldest_ns: int
    third_blocks: tuple[int, int, int]
    third_bytes: tuple[int, int, int]


@dataclass(frozen=True)
class Older:
    """Frees of blocks from before the trace. Bytes are usable sizes; of ``unsized`` frees they are not known."""

    frees: int = 0
    bytes: int = 0
    unsized: int = 0


@dataclass(frozen=True)
class SizeClass:
    """Frees of blocks from before the trace of one class of sizes, and their bytes."""

    frees: int
    bytes: int


@dataclass(frozen=True)
class MappingEvent:
    """One mmap, mremap or munmap of the process, in the order in which the kernel saw them."""

    kind: MappingKind
    address: int
    bytes: int
    stack: int
    time_ns: int
    thread: int


def stacks_of(records: bytes) -> Iterator[tuple[int, Stack]]:
    """The stacks of the ring's records, which follow each other, by their hashes."""
    position = 0
    while position < len(records):
        found, depth, ending, python, python_ending = _FRAMES_HEADER.unpack_from(records, position)
        position += _FRAMES_HEADER.size
        frames = struct.unpack_from(f"={depth}Q", records, position)
        position += depth * _WORD
        words = struct.unpack_from(f"={2 * python}Q", records, position)
        position += 2 * python * _WORD
        calls = tuple(
            PythonCall(code, at & 0xFFFFFFFF, bool(at & lib.HEAP_PYTHON_CALLED_BY_C))
            for code, at in zip(words[::2], words[1::2], strict=True)
        )
        yield found, Stack(frames, Ending(ending), calls, PythonEnding(python_ending))
