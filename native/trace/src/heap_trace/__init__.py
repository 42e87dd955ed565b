"""Exact heap accounting of one process with eBPF uprobes.

A thin layer over the loader in C: it loads the program, attaches it to functions of one file for one process, and
reads back what was counted. Which files and instructions to probe, and what the addresses mean, is the caller's.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from heap_trace._errors import TraceError, check, is_privilege_error
from heap_trace._handle import KernelHandle, TraceClosedError
from heap_trace._heap_trace import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "MAX_FRAMES",
    "UNKNOWN_STACK",
    "Block",
    "Function",
    "HeapTrace",
    "Lost",
    "MappingEvent",
    "MappingKind",
    "Probe",
    "Stack",
    "TraceClosedError",
    "TraceError",
    "is_privilege_error",
]

MAX_FRAMES: int = lib.HEAP_MAX_FRAMES
UNKNOWN_STACK: int = lib.HEAP_UNKNOWN_STACK


class Function(enum.IntEnum):
    """The signature behind a probe: where its size, pointer and result are found."""

    MALLOC = lib.HEAP_MALLOC
    CALLOC = lib.HEAP_CALLOC
    REALLOC = lib.HEAP_REALLOC
    REALLOCARRAY = lib.HEAP_REALLOCARRAY
    ALIGNED_ALLOC = lib.HEAP_ALIGNED_ALLOC
    POSIX_MEMALIGN = lib.HEAP_POSIX_MEMALIGN
    FREE = lib.HEAP_FREE
    MMAP = lib.HEAP_MMAP
    MREMAP = lib.HEAP_MREMAP
    MUNMAP = lib.HEAP_MUNMAP


class Lost(enum.IntEnum):
    """Why an event was not counted, or not counted under its own stack."""

    THREAD = lib.HEAP_LOST_THREAD
    RETURN = lib.HEAP_LOST_RETURN
    READ = lib.HEAP_LOST_READ
    BLOCKS = lib.HEAP_LOST_BLOCKS
    FREE = lib.HEAP_LOST_FREE
    STACK = lib.HEAP_LOST_STACK
    STACKS = lib.HEAP_LOST_STACKS
    MAPPING = lib.HEAP_LOST_MAPPING


class MappingKind(enum.IntEnum):
    """What happened to a range of addresses."""

    MAPPED = lib.HEAP_MAPPED
    RESERVED = lib.HEAP_RESERVED
    UNMAPPED = lib.HEAP_UNMAPPED
    RESTORED = lib.HEAP_RESTORED


# What takes blocks out of the books comes first; what does both comes before what only puts them in.
_ATTACH_ORDER = (Function.FREE, Function.MUNMAP, Function.REALLOC, Function.REALLOCARRAY, Function.MREMAP)


def _attach_rank(function: Function) -> int:
    return _ATTACH_ORDER.index(function) if function in _ATTACH_ORDER else len(_ATTACH_ORDER)


@dataclass(frozen=True)
class Probe:
    """One probed function: the offset of its probed instruction in the file, in bytes."""

    function: Function
    offset: int


@dataclass(frozen=True)
class Stack:
    """What one call stack allocated and what of it was freed. ``frames`` are return addresses, innermost first."""

    allocations: int
    allocated_bytes: int
    frees: int
    freed_bytes: int
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """One live block: its size, the hash of its stack and when it was taken, in ns of CLOCK_MONOTONIC."""

    bytes: int
    stack: int
    time_ns: int


@dataclass(frozen=True)
class MappingEvent:
    """One mmap, mremap or munmap of the process, in the order in which the kernel saw them."""

    kind: MappingKind
    address: int
    bytes: int
    stack: int
    time_ns: int
    thread: int


class HeapTrace(KernelHandle):
    """The loaded program. Close it, or use it as a context manager: the probes go with it, also if the process dies.

    Args:
        max_blocks: live heap blocks that can be tracked at a time; the kernel takes about 80 bytes for each in use.
        max_stacks: different call stacks, about 1.1 KiB each in use.
        min_bytes: heap blocks below this size are left out.
        allow_session: False keeps to separate entry and return programs, as on kernels before 6.13.

    Raises:
        TraceError: the kernel refuses the program; ``errno`` is EPERM where privileges are missing.
    """

    def __init__(
        self, *, max_blocks: int = 1 << 20, max_stacks: int = 1 << 14, min_bytes: int = 0, allow_session: bool = True
    ) -> None:
        program = files("heap_trace").joinpath("heap_trace.bpf.o").read_bytes()
        options = ffi.new(
            "struct heap_trace_options *",
            {
                "max_blocks": max_blocks,
                "max_stacks": max_stacks,
                "min_bytes": min_bytes,
                "allow_session": allow_session,
            },
        )
        trace = ffi.new("struct heap_trace **")
        check(lib.heap_trace_open(trace, program, len(program), options))
        super().__init__(trace[0], lib.heap_trace_close)

    def attach(self, pid: int, path: str, probes: Sequence[Probe]) -> None:
        """Attach to one file, for one process alone: all probes or none.

        The probes that take blocks out of the books are in place before the ones that put them in: a process that
        runs on meanwhile would else be charged for blocks whose free was not seen.

        Raises:
            TraceError: ``errno`` is ESRCH or EINVAL where there is no such process, ENOENT where there is no file.
        """
        native = ffi.new(
            "struct heap_trace_probe[]",
            [
                {
                    "offset": probe.offset,
                    "function": int(probe.function),
                    "has_return": probe.function is not Function.FREE,
                }
                for probe in sorted(probes, key=lambda probe: _attach_rank(probe.function))
            ],
        )
        check(lib.heap_trace_attach(self._open(), pid, path.encode(), native, len(probes)))

    @property
    def uses_session(self) -> bool:
        """True where one program serves both ends of a call (kernel 6.13 and newer)."""
        return bool(lib.heap_trace_uses_session(self._open()))

    def stacks(self) -> dict[int, Stack]:
        """Every stack seen so far, by its hash."""
        hashes, values, count = ffi.new("uint64_t **"), ffi.new("struct heap_stack **"), ffi.new("size_t *")
        check(lib.heap_trace_read_stacks(self._open(), hashes, values, count))
        result = {}
        for i in range(count[0]):
            value = values[0][i]
            frames = tuple(ffi.unpack(value.frames, min(value.depth, MAX_FRAMES)))
            result[int(hashes[0][i])] = Stack(
                value.allocations, value.allocated_bytes, value.frees, value.freed_bytes, frames
            )
        return result

    def blocks(self) -> dict[int, Block]:
        """Every heap block that was taken under the trace and still lives, by its address."""
        addresses, values, count = ffi.new("uint64_t **"), ffi.new("struct heap_block **"), ffi.new("size_t *")
        check(lib.heap_trace_read_blocks(self._open(), addresses, values, count))
        return {
            int(addresses[0][i]): Block(values[0][i].bytes, values[0][i].stack, values[0][i].time_ns)
            for i in range(count[0])
        }

    def mappings(self) -> list[MappingEvent]:
        """The mapping events since the last call."""
        events, count = ffi.new("struct heap_mapping **"), ffi.new("size_t *")
        check(lib.heap_trace_read_mappings(self._open(), events, count))
        return [
            MappingEvent(MappingKind(event.kind), event.address, event.bytes, event.stack, event.time_ns, event.thread)
            for event in (events[0][i] for i in range(count[0]))
        ]

    def lost(self) -> Mapping[Lost, int]:
        """How many events were not counted, or not under their own stack, for each reason."""
        counts = ffi.new("uint64_t[]", len(Lost))
        check(lib.heap_trace_read_lost(self._open(), counts))
        return {kind: int(counts[kind]) for kind in Lost}
