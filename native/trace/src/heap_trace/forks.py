"""Which processes a process starts, and these in turn: told at once, also of those that live for a millisecond."""

from __future__ import annotations

from importlib.resources import files
from threading import Lock

from heap_trace._errors import check
from heap_trace._handle import KernelHandle
from heap_trace._heap_trace import ffi, lib

__all__ = ["Forks"]


class Forks(KernelHandle):
    """The loaded program. Close it, or use it as a context manager. Processes go by the machine's own numbers.

    Raises:
        TraceError: the kernel refuses.
    """

    def __init__(self) -> None:
        program = files("heap_trace").joinpath("forks.bpf.o").read_bytes()
        trace = ffi.new("struct fork_trace **")
        check(lib.fork_trace_open(trace, program, len(program)))
        super().__init__(trace[0], lib.fork_trace_close)
        self._ring = Lock()

    def follow(self, pid: int) -> None:
        """Tell of what this process starts from now on. What it starts is followed by itself.

        Raises:
            TraceError: ``errno`` is E2BIG where more than 32,768 are followed.
        """
        with self._using() as trace:
            check(lib.fork_trace_follow(trace, pid))

    def started(self, wait_seconds: float = 0.0) -> list[int]:
        """The processes that were started since the last call; waits for the first one so long."""
        found, count = ffi.new("struct forked **"), ffi.new("size_t *")
        with self._using(self._ring) as trace:
            check(lib.fork_trace_read(trace, int(wait_seconds * 1000), found, count))
            return [int(found[0][i].pid) for i in range(count[0])]

    def untold(self) -> int:
        """How many were started that could not be told: the ring was full."""
        count = ffi.new("uint64_t *")
        with self._using() as trace:
            check(lib.fork_trace_read_untold(trace, count))
        return int(count[0])
