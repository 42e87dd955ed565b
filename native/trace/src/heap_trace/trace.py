"""The loaded program of one trace: attached to functions of files for one process, and read."""

from __future__ import annotations

from importlib.resources import files
from threading import Lock
from typing import TYPE_CHECKING

from heap_trace._errors import TraceError, check
from heap_trace._handle import KernelHandle
from heap_trace._heap_trace import ffi, lib
from heap_trace.python import NO_PYTHON
from heap_trace.records import Counters, Lost, MappingEvent, MappingKind, Older, SizeClass, Survivors, stacks_of
from heap_trace.signatures import attach_rank
from heap_trace.unwind import BY_FRAME_POINTERS, UnwindTables, Unwound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from heap_trace.python import PythonFrames
    from heap_trace.records import Stack
    from heap_trace.signatures import Probe
    from heap_trace.unwind import Unwinding

MAX_FRAMES: int = lib.HEAP_MAX_FRAMES
KERNEL_FRAMES: int = lib.HEAP_KERNEL_FRAMES  # what a trace by frame pointers keeps of a stack
UNKNOWN_STACK: int = lib.HEAP_UNKNOWN_STACK
SIZE_CLASSES: int = lib.HEAP_SIZE_CLASSES
RING_BYTES = 1 << 22


class HeapTrace(KernelHandle):
    """The loaded program. Close it, or use it as a context manager: the probes go with it, also if the process dies.

    Args:
        max_blocks: live heap blocks that can be tracked at a time; the kernel takes about 90 bytes for each in use.
        max_stacks: different call stacks, about 110 bytes each in use, and in this process about 45 bytes a frame.
        ring_bytes: a power of two: of the ring of mapping events, of 48 bytes each, and of that of frames. Both are to
            be emptied ten times a second; this process's resident memory has each of them twice.
        min_bytes: heap blocks below this size are left out.
        count_nothing: True for probes that fire and do nothing, to measure what they cost.
        count_calls: True for `calls`, at a few ns a call.
        allow_session: False keeps to separate entry and return programs, as on kernels before 6.13.
        unwinding: how stacks are taken. By unwind tables: fill `tables` before the first `attach`.
        python: where the process's interpreter of Python has its frames, if it is one.

    Raises:
        TraceError: the kernel refuses the program; ``errno`` is EPERM where privileges are missing.
    """

    def __init__(
        self,
        *,
        max_blocks: int = 1 << 20,
        max_stacks: int = (1 << 18) - 1,
        ring_bytes: int = RING_BYTES,
        min_bytes: int = 0,
        count_nothing: bool = False,
        count_calls: bool = False,
        allow_session: bool = True,
        unwinding: Unwinding = BY_FRAME_POINTERS,
        python: PythonFrames = NO_PYTHON,
    ) -> None:
        program = files("heap_trace").joinpath("heap_trace.bpf.o").read_bytes()
        options = ffi.new(
            "struct heap_trace_options *",
            {
                "max_blocks": max_blocks,
                "max_stacks": max_stacks,
                "ring_bytes": ring_bytes,
                "min_bytes": min_bytes,
                "count_nothing": count_nothing,
                "count_calls": count_calls,
                "allow_session": allow_session,
                "unwind": unwinding.options(),
                "python": vars(python),
            },
        )
        trace = ffi.new("struct heap_trace **")
        check(lib.heap_trace_open(trace, program, len(program), options))
        self._own(trace[0])

    def _own(self, trace: object) -> None:
        super().__init__(trace, lib.heap_trace_close)
        # One for each buffer of the loader's: a reading of all blocks does not hold up the rings.
        self._maps, self._blocks, self._mapping_ring, self._frame_ring = Lock(), Lock(), Lock(), Lock()

    def attach(self, pid: int, path: str, probes: Sequence[Probe], code: Sequence[tuple[int, int]]) -> int:
        """Attach to one file, for one process alone: all probes or none. May be repeated for further files.

        Returns a number for `detach_file`.

        Args:
            pid: the process.
            path: what opens the file.
            probes: where in it.
            code: the ranges of addresses at which the process has the file's code mapped: a call from there, while
                another is pending, is the allocator's own.

        Raises:
            TraceError: ``errno`` is ESRCH or EINVAL where there is no such process, ENOENT where there is no file,
                ECANCELED where the probes were detached.
        """
        records = [record for probe in sorted(probes, key=attach_rank) for record in _records(probe)]
        native = ffi.new("struct heap_trace_probe[]", records)
        ranges = ffi.new("struct heap_code[]", [{"start": start, "end": end} for start, end in code])
        file = ffi.new(
            "struct heap_trace_file *",
            {"probes": native, "n_probes": len(records), "code": ranges, "n_code": len(code)},
        )
        attachment = ffi.new("uint32_t *")
        with self._using() as trace:
            check(lib.heap_trace_attach(trace, pid, path.encode(), file, attachment))
        return int(attachment[0])

    def detach_file(self, attachment: int) -> None:
        """Detach the probes of one file.

        For one that the process has unmapped, or by whose thread its memory is not found any more: the kernel keeps
        them, and the file, else.
        """
        with self._using() as trace:
            lib.heap_trace_detach_file(trace, attachment)

    def detach(self) -> None:
        """Detach all probes. What was counted can still be read."""
        with self._using() as trace:
            lib.heap_trace_detach(trace)

    def renew(self) -> HeapTrace:
        """Empty, for a trace of another process: to load the program again takes a third of a second.

        This one is closed by it. The process that it traced must have ended: a thread in a call would go on counting.
        What was added to the unwind tables is still there.

        Raises:
            TraceError: the maps cannot be emptied.
        """
        renewed = HeapTrace.__new__(HeapTrace)
        renewed._own(self._give_up())  # noqa: SLF001 - of this class
        try:
            with renewed._using() as trace:  # noqa: SLF001
                check(lib.heap_trace_reset(trace))
        except TraceError:
            renewed.close()
            raise
        return renewed

    @property
    def uses_session(self) -> bool:
        """True where one program serves both ends of a call (kernel 6.13 and newer)."""
        with self._using() as trace:
            return bool(lib.heap_trace_uses_session(trace))

    @property
    def tables(self) -> UnwindTables | None:
        """The unwind tables, to be filled; None for a trace by frame pointers. Not to be used once this is closed."""
        with self._using() as trace:
            tables = lib.heap_trace_tables(trace)
        return UnwindTables(tables) if tables else None

    def unwound(self) -> Unwound:
        """What was unwound so far."""
        counts = ffi.new("uint64_t[]", lib.UNWIND_COUNTS)
        with self._using() as trace:
            check(lib.heap_trace_read_unwound(trace, counts))
        return Unwound(
            hits=int(counts[lib.UNWIND_HITS]),
            walks=int(counts[lib.UNWIND_WALKS]),
            frames=int(counts[lib.UNWIND_FRAMES]),
            mismatches=int(counts[lib.UNWIND_MISMATCHES]),
            restored=int(counts[lib.UNWIND_RESTORED]),
        )

    def counters(self) -> dict[int, Counters]:
        """What every stack seen so far did, by its hash."""
        hashes, values, count = ffi.new("uint64_t **"), ffi.new("struct heap_counters **"), ffi.new("size_t *")
        with self._using(self._maps) as trace:
            check(lib.heap_trace_read_counters(trace, hashes, values, count))
            return {
                int(hashes[0][i]): Counters(
                    value.allocations,
                    value.allocated_bytes,
                    value.frees,
                    value.freed_bytes,
                    value.untracked,
                    value.untracked_bytes,
                    value.replaced,
                    value.replaced_bytes,
                )
                for i in range(count[0])
                for value in (values[0][i],)
            }

    def new_stacks(self) -> dict[int, Stack]:
        """The stacks that were seen first since the last call, by their hashes. Keep them: each comes once."""
        records, size = ffi.new("unsigned char **"), ffi.new("size_t *")
        with self._using(self._frame_ring) as trace:
            check(lib.heap_trace_read_frames(trace, records, size))
            return dict(stacks_of(bytes(ffi.buffer(records[0], size[0])) if size[0] else b""))

    def survivors(self, since_ns: int, now_ns: int) -> dict[int, Survivors]:
        """The live blocks that were taken at a time or later, in ns of CLOCK_MONOTONIC, by the hash of their stack."""
        found, count = ffi.new("struct heap_survivors **"), ffi.new("size_t *")
        with self._using(self._blocks) as trace:
            check(lib.heap_trace_read_survivors(trace, since_ns, now_ns, found, count))
            return {
                int(each.stack): Survivors(
                    each.blocks, each.bytes, each.oldest_ns, tuple(each.third_blocks), tuple(each.third_bytes)
                )
                for each in (found[0][i] for i in range(count[0]))
            }

    def older(self) -> dict[int, Older]:
        """Frees of blocks from before the trace, by the address that the freeing call returns to; 0: no room."""
        callers, values, count = ffi.new("uint64_t **"), ffi.new("struct heap_older **"), ffi.new("size_t *")
        with self._using(self._maps) as trace:
            check(lib.heap_trace_read_older(trace, callers, values, count))
            return {
                int(callers[0][i]): Older(values[0][i].frees, values[0][i].bytes, values[0][i].unsized)
                for i in range(count[0])
            }

    def older_sizes(self) -> tuple[SizeClass, ...]:
        """The same by size: class ``(log2 << 2) + the two bits below the highest one``."""
        sizes = ffi.new("struct heap_size_class[]", SIZE_CLASSES)
        with self._using() as trace:
            check(lib.heap_trace_read_older_sizes(trace, sizes))
        return tuple(SizeClass(each.frees, each.bytes) for each in sizes)

    def mappings(self) -> list[MappingEvent]:
        """The mapping events since the last call."""
        events, count = ffi.new("struct heap_mapping **"), ffi.new("size_t *")
        with self._using(self._mapping_ring) as trace:
            check(lib.heap_trace_read_mappings(trace, events, count))
            return [
                MappingEvent(
                    MappingKind(event.kind), event.address, event.bytes, event.stack, event.time_ns, event.thread
                )
                for event in (events[0][i] for i in range(count[0]))
            ]

    def fatal_signal(self) -> int:
        """SIGILL or SIGTRAP where that ended the process, else 0."""
        number = ffi.new("uint64_t *")
        with self._using() as trace:
            check(lib.heap_trace_read_fatal_signal(trace, number))
        return int(number[0])

    def calls(self) -> int:
        """How many probed calls there were, nested ones included; 0 where they are not counted."""
        calls = ffi.new("uint64_t *")
        with self._using() as trace:
            check(lib.heap_trace_read_calls(trace, calls))
        return int(calls[0])

    def lost(self) -> Mapping[Lost, int]:
        """How many events were not counted, or not in full, for each reason."""
        counts = ffi.new("uint64_t[]", len(Lost))
        with self._using() as trace:
            check(lib.heap_trace_read_lost(trace, counts))
        return {kind: int(counts[kind]) for kind in Lost}


def _records(probe: Probe) -> Iterator[dict[str, int]]:
    """The loader's records of one probe: its exits come first, so that no entry is counted without them."""
    for offset in probe.exits:
        yield {"offset": offset, "kind": lib.HEAP_EXIT}
    signature = probe.signature
    yield {
        "offset": probe.offset,
        "kind": int(signature.kind),
        "size": signature.size,
        "count": signature.count,
        "pointer": signature.pointer,
        "flags": signature.flags,
    }
