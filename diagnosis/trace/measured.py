"""What a window measures and a report names: one process, or several that read as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from heap_trace import Ending

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from heap_trace import Lost, Older
    from heap_trace.page_faults import FaultStack

    from diagnosis.target.allocator import Allocator
    from diagnosis.target.process import Resident
    from diagnosis.target.python_code import PythonStack
    from diagnosis.target.symbols import SymbolizedStack
    from diagnosis.trace.mapped import MappedRange
    from diagnosis.trace.snapshot import Snapshot, Survivors


class MeasuredProcess(Protocol):
    """A `Process`, or those of a group as one. See there for what is not said here."""

    pid: int
    proc: Path

    @property
    def command(self) -> str:
        """The command line, safe to print."""

    def program(self) -> tuple[str, ...]:
        """What changes with an exec; empty when it has ended."""

    def alive(self) -> bool:
        """True while it runs."""

    def resident(self) -> Resident:
        """Resident memory now."""

    def children(self) -> tuple[int, ...]:
        """The processes that it started and that are not measured with it."""

    def members(self) -> tuple[int, ...]:
        """The pids of those that are measured as one."""


class Measured(Protocol):
    """A `Tracer`, or a `Group` of them. See there for what is not said here. Stacks go by numbers of its own."""

    @property
    def process(self) -> MeasuredProcess:
        """Whose counts these are."""

    @property
    def allocators(self) -> tuple[Allocator, ...]:
        """What is traced."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What else a reader of the counts has to know."""

    @property
    def detached(self) -> str:
        """Why the probes were detached before their time; "" while they were not."""

    def snapshot(self) -> Snapshot:
        """The counts of every stack now."""

    def survivors(self, since: Snapshot) -> dict[int, Survivors]:
        """What lives of the blocks taken after a snapshot, by stack."""

    def older(self) -> Mapping[int, Older]:
        """Frees of blocks from before the trace."""

    def ranges(self) -> list[MappedRange]:
        """What was mapped under the trace and still is."""

    def lost(self) -> Mapping[Lost, int]:
        """How many events were not counted, or not in full, by reason."""

    def frames(self, stack: int) -> tuple[int, ...]:
        """What `Names.symbolize` knows a stack by."""

    def ending(self, stack: int) -> Ending:
        """How a stack ended."""

    def python(self, stack: int) -> PythonStack | None:
        """The Python functions of a stack; None where it has none, or where `Names.symbolize` knows them."""

    def fatal_signal(self) -> str:
        """SIGILL or SIGTRAP where that ended it; "" else."""

    def look_for_allocators(self) -> None:
        """Attach to what has been mapped since the last look."""

    def set_deadline(self, seconds: float) -> None:
        """Have the probes detached soon after a time of the monotonic clock."""

    def detach(self) -> None:
        """Detach the probes. What was counted can still be read."""


class Names(Protocol):
    """A `Symbolizer`, or a `Group` of processes. See there for what is not said here."""

    def refresh(self) -> None:
        """Read what is mapped now."""

    def symbolize(
        self, addresses: Sequence[int], ending: Ending = Ending.UNKNOWN, python: PythonStack | None = None
    ) -> SymbolizedStack:
        """The stack that `Measured.frames` gave."""

    def symbolize_fault(self, stack: FaultStack) -> SymbolizedStack:
        """The stack of a page fault."""

    def lost_names(self) -> dict[str, str]:
        """The files whose names are missing, or their lines, and why."""
