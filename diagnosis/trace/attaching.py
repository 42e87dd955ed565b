"""Attaches the probes of one allocator."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heap_trace import HeapTrace

    from diagnosis.target.allocator import Allocator
    from diagnosis.target.process import Process


def attach_allocator(
    trace: HeapTrace, process: Process, allocator: Allocator, *, thread: int | None = None, again: bool = False
) -> int | None:
    """Attach the probes of one allocator in one process; returns the number to detach them by, None without probes.

    Args:
        trace: whose program they run.
        process: the only one in which they are.
        allocator: of that process.
        thread: the one that the kernel is to find the process's memory by; by default the first one.
        again: the trace knows where the allocator's code is mapped.

    Raises:
        LabError: the process has ended.
        TraceError: the kernel does not take one of them.
    """
    if not allocator.probes:
        return None
    mapped = () if again else process.code_maps()
    code = [(mapping.start, mapping.end) for mapping in mapped if mapping.file == allocator.file]
    return trace.attach(thread or process.pid, str(allocator.path), [placed.probe for placed in allocator.probes], code)
