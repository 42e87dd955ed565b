"""``python -m comparison.loops.empty_probes PID``: the tracer's probes with an empty program, until Ctrl-C.

What no tracer with the same probes can be cheaper than: the traps, and the kernel's way to a program and back.
"""

from __future__ import annotations

import signal
import sys

from heap_trace import HeapTrace

from diagnosis.target.allocator import find_allocators
from diagnosis.target.process import Process
from diagnosis.trace.attaching import attach_allocator


def main() -> None:
    """Attach, and wait for Ctrl-C."""
    process = Process(int(sys.argv[1]))
    with HeapTrace(count_nothing=True) as trace:
        for allocator in find_allocators(process):
            attach_allocator(trace, process, allocator)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
