"""Trace a target by unwind tables, and read its stacks by name."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heap_trace import HeapTrace, Unwinding, UnwindMode

from diagnosis.target.allocator import find_allocators
from diagnosis.target.process import Process
from diagnosis.target.symbols import Symbolizer
from diagnosis.target.unwinding import ProcessTables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from heap_trace import Ending, Stack

    from tests.trace.tracing import Closing, Target


@dataclass(frozen=True)
class Named:
    """One stack by the names of its functions, innermost first."""

    names: tuple[str, ...]
    ending: Ending
    allocations: int


@dataclass(frozen=True)
class Unwinder:
    """A trace by unwind tables, with its probes in."""

    trace: HeapTrace
    tables: ProcessTables
    process: Process

    def stacks(self) -> dict[Stack, int]:
        """Every stack that took memory since the last call, and how often."""
        counters = self.trace.counters()
        return {stack: counters[found].allocations for found, stack in self.trace.new_stacks().items()}

    def named(self) -> tuple[Named, ...]:
        """The same by name. The process has to be there still, for its symbols."""
        with Symbolizer(self.process) as symbolizer:
            return tuple(
                Named(
                    tuple(frame.name for address in stack.frames for frame in symbolizer.symbolize((address,)).frames),
                    stack.ending,
                    allocations,
                )
                for stack, allocations in self.stacks().items()
            )


@contextlib.contextmanager
def unwinding(
    target: Target,
    closing: Closing,
    *,
    mode: UnwindMode = UnwindMode.ON,
    memo_sets: int = 1024,
    allow_session: bool = True,
) -> Iterator[Unwinder]:
    """Trace a target at its stop."""
    process = Process(target.pid)
    tables = ProcessTables(process)
    opened = HeapTrace(
        allow_session=allow_session, unwinding=Unwinding(mode, tables.capacity(), memo_sets), max_stacks=4096
    )
    with closing.later(opened) as trace:
        assert trace.tables
        tables.load(trace.tables)
        for allocator in find_allocators(process):
            code = [(each.start, each.end) for each in process.code_maps() if each.label == allocator.name]
            trace.attach(target.pid, str(allocator.path), [placed.probe for placed in allocator.probes], code)
        yield Unwinder(trace, tables, process)
