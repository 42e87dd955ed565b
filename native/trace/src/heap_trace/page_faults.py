"""Samples of page faults with their user stacks: where memory becomes resident, and by whose code."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from threading import Lock
from typing import TYPE_CHECKING

from heap_trace._errors import check
from heap_trace._handle import KernelHandle
from heap_trace._heap_trace import ffi, lib
from heap_trace.unwind import BY_FRAME_POINTERS, Ending, UnwindTables

if TYPE_CHECKING:
    from heap_trace.unwind import Unwinding

__all__ = ["FAULT_MAX_FRAMES", "FaultStack", "PageFaults", "Totals"]

FAULT_MAX_FRAMES: int = lib.FAULT_MAX_FRAMES

# One sample for this many faults of a processor: a sample takes about as long as a fault, so this is about 1 %.
DEFAULT_PERIOD = 100


@dataclass(frozen=True)
class FaultStack:
    """A user stack at a fault: the faulting instruction, then return addresses.

    ``top`` is the word at the stack pointer: the return address, where the faulting function has no frame. With
    unwind tables, which find that one themselves, it is 0. By frame pointers ``ending`` is UNKNOWN.
    """

    frames: tuple[int, ...]
    top: int
    ending: Ending = Ending.UNKNOWN


@dataclass(frozen=True)
class Totals:
    """All faults of the machine, counted and not estimated, and the samples that found no room."""

    faults: int
    lost: int


class PageFaults(KernelHandle):
    """The loaded sampler: attach it, and close it, or use it as a context manager.

    Args:
        pid: the one process to sample, as the machine's first pid namespace numbers it; 0 for all.
        unwinding: how stacks are taken. By unwind tables, which are one process's, without a memo: fill `tables`
            before `attach`.

    Raises:
        TraceError: the kernel refuses, or tables are asked for with a memo or without a pid.
    """

    def __init__(self, *, pid: int = 0, unwinding: Unwinding = BY_FRAME_POINTERS) -> None:
        program = files("heap_trace").joinpath("page_faults.bpf.o").read_bytes()
        trace = ffi.new("struct fault_trace **")
        unwind = ffi.new("struct unwind_options *", unwinding.options())
        check(lib.fault_trace_open(trace, program, len(program), pid, unwind))
        super().__init__(trace[0], lib.fault_trace_close)
        self._maps = Lock()

    @property
    def tables(self) -> UnwindTables | None:
        """The unwind tables, to be filled; None by frame pointers. Not to be used once this is closed."""
        with self._using() as trace:
            tables = lib.fault_trace_tables(trace)
        return UnwindTables(tables) if tables else None

    def attach(self, period: int = DEFAULT_PERIOD) -> None:
        """Sample from now on, one for every ``period`` faults of a processor. Once.

        Raises:
            TraceError: the kernel refuses.
        """
        with self._using() as trace:
            check(lib.fault_trace_attach(trace, period))

    def samples(self) -> dict[tuple[int, int], int]:
        """How many samples, by process and hash of the stack; hash 0 stands for no stack, process 0 for all others."""
        keys, counts, count = ffi.new("struct fault_key **"), ffi.new("uint64_t **"), ffi.new("size_t *")
        with self._using(self._maps) as trace:
            check(lib.fault_trace_read_samples(trace, keys, counts, count))
            return {(int(keys[0][i].pid), int(keys[0][i].stack)): int(counts[0][i]) for i in range(count[0])}

    def stacks(self) -> dict[int, FaultStack]:
        """The stacks of the samples, by their hashes."""
        hashes, values, count = ffi.new("uint64_t **"), ffi.new("struct fault_stack **"), ffi.new("size_t *")
        with self._using(self._maps) as trace:
            check(lib.fault_trace_read_stacks(trace, hashes, values, count))
            return {
                int(hashes[0][i]): FaultStack(
                    tuple(ffi.unpack(value.frames, min(value.depth, FAULT_MAX_FRAMES))),
                    int(value.top),
                    Ending(value.ending),
                )
                for i in range(count[0])
                for value in (values[0][i],)
            }

    def totals(self) -> Totals:
        """What was counted exactly since the start."""
        faults, lost = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        with self._using() as trace:
            check(lib.fault_trace_read_totals(trace, faults, lost))
        return Totals(int(faults[0]), int(lost[0]))
