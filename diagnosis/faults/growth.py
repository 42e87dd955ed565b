"""Where memory becomes resident: samples of page faults, with symbols.

One fault in a hundred is taken with its stack, and the faults as such are counted, so the bytes that a stack touched
are estimated as its share of the samples times the number of faults. A share that rests on n samples is off by
about n ** 0.5 of them. Faults are not growth: memory that is mapped, touched and given back faults every time, and so
what grew is read from /proc, and the samples say only by whose code.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heap_trace import TraceError, Unwinding, UnwindMode, is_privilege_error
from heap_trace.page_faults import PageFaults

from diagnosis.base.errors import LabError
from diagnosis.report.lost import count_cut_short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heap_trace.page_faults import FaultStack, Totals

    from diagnosis.target.symbols import Frame
    from diagnosis.target.unwinding import ProcessTables
    from diagnosis.trace.measured import Names

PAGE_BYTES = 4096
PERIOD = 100

# The first pid namespace has a fixed inode number: PROC_PID_INIT_INO of the kernel.
FIRST_PID_NAMESPACE = "pid:[4026531836]"


@dataclass(frozen=True)
class TouchedStack:
    """A stack under which memory became resident: an estimate in bytes, and one standard error of it."""

    frames: tuple[Frame, ...]
    touched_bytes: float
    error_bytes: float
    samples: int


@dataclass(frozen=True)
class FaultWindow:
    """The samples of one window: counts by process and stack, the stacks, and the number of all faults."""

    samples: Mapping[tuple[int, int], int]
    stacks: Mapping[int, FaultStack]
    totals: Totals

    @property
    def bytes_per_sample(self) -> float:
        """The bytes that one sample represents: all faults over the samples taken."""
        taken = sum(self.samples.values()) + self.totals.lost
        return self.totals.faults * PAGE_BYTES / taken if taken else 0.0

    def touched_bytes(self, pid: int) -> float:
        """What became resident in one process: an estimate."""
        return sum(count for (owner, _), count in self.samples.items() if owner == pid) * self.bytes_per_sample

    def stacks_of(self, pid: int, symbolizer: Names) -> list[TouchedStack]:
        """The stacks of one process, the ones that touched most first."""
        merged: defaultdict[tuple[Frame, ...], int] = defaultdict(int)
        for (owner, stack), count in self.samples.items():
            if owner == pid:
                found = self.stacks.get(stack)
                # Different instructions of one line are one place to a reader.
                merged[symbolizer.symbolize_fault(found).frames if found else ()] += count
        scale = self.bytes_per_sample
        return sorted(
            (TouchedStack(frames, count * scale, math.sqrt(count) * scale, count) for frames, count in merged.items()),
            key=lambda stack: -stack.samples,
        )

    def lost_of(self, pid: int, symbolizer: Names) -> dict[str, int]:
        """How many samples of one process have no stack, or one that is not whole, by kind; and those without room."""
        taken = [(self.stacks.get(stack), count) for (owner, stack), count in self.samples.items() if owner == pid]
        return {
            "samples": self.totals.lost,
            "stack": sum(count for found, count in taken if not found),
            **count_cut_short([(symbolizer.symbolize_fault(found), count) for found, count in taken if found]),
        }


class GrowthSampler:
    """Samples page faults for as long as it is open.

    Args:
        pid: the one process to sample; 0 for all of the machine.
        tables: that process's unwind tables, to be loaded here and refreshed by the caller; None for frame pointers.

    Attributes:
        notes: what a reader has to know of how stacks are taken.

    Raises:
        LabError: the kernel refuses, or this runs in a pid namespace of its own, where the numbers would not match.
    """

    def __init__(
        self,
        pid: int = 0,
        own_namespace: Path = Path("/proc/self/ns/pid"),
        *,
        tables: ProcessTables | None = None,
    ) -> None:
        self.notes: tuple[str, ...] = ()
        if str(own_namespace.readlink()) != FIRST_PID_NAMESPACE:
            raise LabError(
                "this runs in a pid namespace of its own, where pids are not the kernel's",
                "run it on the machine itself, or with hostPID: true or --pid=host",
            )
        try:
            self._faults = self._open(pid, tables)
            try:
                self._faults.attach(PERIOD)
            except BaseException:
                self._faults.close()
                raise
        except TraceError as error:
            remedy = "run this command as root" if is_privilege_error(error) else "run: memleak-lab doctor"
            raise LabError(f"page faults cannot be sampled: {error}", remedy) from error

    def _open(self, pid: int, tables: ProcessTables | None) -> PageFaults:
        if tables is None:
            return PageFaults(pid=pid)
        try:
            faults = PageFaults(pid=pid, unwinding=Unwinding(UnwindMode.ON, tables.capacity(), memo_sets=0))
        except TraceError as refusal:
            reason = str(refusal).split("\n")[0]
            self.notes = (f"Stacks are by frame pointers: this kernel refuses to unwind ({reason}).",)
            return PageFaults(pid=pid)  # what refuses this as well is told of this
        if faults.tables:
            tables.load(faults.tables)
        return faults

    def read(self) -> FaultWindow:
        """Everything since the start."""
        return FaultWindow(self._faults.samples(), self._faults.stacks(), self._faults.totals())

    def close(self) -> None:
        """Stop sampling."""
        self._faults.close()
