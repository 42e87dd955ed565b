"""Traces one process: probes in, counts by call stack out."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Self

from heap_trace import HeapTrace, TraceError, is_privilege_error

from diagnosis.base.errors import LabError
from diagnosis.target.allocator import find_allocators
from diagnosis.trace.counts import Counts
from diagnosis.trace.mapped import MappedRanges

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from heap_trace import Lost

    from diagnosis.target.allocator import Allocator
    from diagnosis.target.process import Process

NANOSECONDS = 1_000_000_000

# The ring of mapping events has room for 75,000: a process that maps all the time fills it between two distant looks.
DRAIN_SECONDS = 0.1
MAX_BLOCKS = 1 << 20


@dataclass(frozen=True)
class Snapshot:
    """What every stack had taken and given back by a moment, in seconds of the monotonic clock."""

    seconds: float
    counts: Mapping[int, Counts]

    def since(self, earlier: Snapshot) -> dict[int, Counts]:
        """What each stack did between two snapshots: stacks that did nothing are left out."""
        changes = {stack: counts - earlier.counts.get(stack, Counts()) for stack, counts in self.counts.items()}
        return {stack: counts for stack, counts in changes.items() if counts.allocations or counts.frees}


@dataclass(frozen=True)
class Survivors:
    """The blocks of one stack that still live: how many, their bytes, and the times at which they were taken."""

    blocks: int
    bytes: int
    oldest_seconds: float


@dataclass(frozen=True)
class Tracing:
    """How to trace.

    Attributes:
        max_blocks: live heap blocks that can be tracked at a time.
        min_bytes: smaller blocks are left out.
        allow_session: False for an entry and a return program, as on kernels before 6.13.
        at_entry: True for every probe at its function's entry, whatever it costs there.
    """

    max_blocks: int = MAX_BLOCKS
    min_bytes: int = 0
    allow_session: bool = True
    at_entry: bool = False


class Tracer:
    """Probes in one process for as long as it is open. Use it as a context manager.

    Raises:
        LabError: the process cannot be traced; the text holds what the kernel or libbpf said, and a remedy.
    """

    def __init__(self, process: Process, tracing: Tracing = Tracing()) -> None:
        self.process = process
        self.allocators: tuple[Allocator, ...] = find_allocators(process, at_entry=tracing.at_entry)
        self._mapped = MappedRanges()
        self._frames: dict[int, tuple[int, ...]] = {}
        self._lock = Lock()  # the exporter reads from a thread of its own
        self._closing = Event()
        self._drainer = Thread(target=self._drain, name="mappings", daemon=True)
        with ExitStack() as stack:
            try:
                self._trace = stack.enter_context(
                    HeapTrace(
                        max_blocks=tracing.max_blocks,
                        min_bytes=tracing.min_bytes,
                        allow_session=tracing.allow_session,
                    )
                )
                for allocator in self.allocators:
                    probes = [placed.probe for placed in allocator.probes]
                    self._trace.attach(process.pid, str(allocator.path), probes)
            except TraceError as error:
                raise _explain(error, process) from error
            # Said before it starts: an interruption can come before start() returns.
            stack.callback(self._stop_draining)
            self._drainer.start()
            self._close = stack.pop_all().close

    @property
    def uses_session(self) -> bool:
        """True where one eBPF program serves both ends of a call."""
        return self._trace.uses_session

    def _drain(self) -> None:
        """Keep the ring of mapping events from filling up while nobody looks."""
        while not self._closing.wait(DRAIN_SECONDS):
            with self._lock:
                if self._closing.is_set():
                    return
                try:
                    self._mapped.apply(self._trace.mappings())
                except TraceError:
                    return  # the next snapshot meets the same error, and raises it where it can be handled

    def _stop_draining(self) -> None:
        """After this nothing reads the ring any more, so that it can be closed."""
        self._closing.set()
        with self._lock:
            pass  # what was being read is read
        if self._drainer.is_alive():
            self._drainer.join()

    def snapshot(self) -> Snapshot:
        """The counts of every stack now."""
        with self._lock:
            return self._snapshot()

    def _snapshot(self) -> Snapshot:
        seconds = time.monotonic()
        counts: defaultdict[int, Counts] = defaultdict(Counts)
        for stack, value in self._trace.stacks().items():
            self._frames[stack] = value.frames
            counts[stack] = Counts(value.allocations, value.allocated_bytes, value.frees, value.freed_bytes)
        self._mapped.apply(self._trace.mappings())
        for stack, mapped in self._mapped.counts.items():
            counts[stack] = counts[stack] + mapped
        return Snapshot(seconds, counts)

    def survivors(self, since: Snapshot) -> dict[int, Survivors]:
        """What lives of the blocks taken after a snapshot, by stack. Reads every live block: for once in a while."""
        with self._lock:
            return self._survivors(since)

    def _survivors(self, since: Snapshot) -> dict[int, Survivors]:
        now_ns, since_ns = time.monotonic_ns(), int(since.seconds * NANOSECONDS)
        found: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for block in self._trace.blocks().values():
            if block.time_ns >= since_ns:
                found[block.stack].append((block.bytes, block.time_ns))
        self._mapped.apply(self._trace.mappings())
        for stack, size, time_ns in self._mapped.survivors():
            if time_ns >= since_ns:
                found[stack].append((size, time_ns))
        return {
            stack: Survivors(
                len(blocks), sum(size for size, _ in blocks), (now_ns - min(at for _, at in blocks)) / NANOSECONDS
            )
            for stack, blocks in found.items()
        }

    def frames(self, stack: int) -> tuple[int, ...]:
        """The return addresses of a stack of a snapshot, innermost first; none for the unknown stack."""
        return self._frames.get(stack, ())

    def lost(self) -> Mapping[Lost, int]:
        """How many events were not counted, or not under their own stack, by reason."""
        return self._trace.lost()

    def close(self) -> None:
        """Take the probes out."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _explain(error: TraceError, process: Process) -> LabError:
    if not process.alive():
        return LabError(f"pid {process.pid} has ended", "start it again, and trace it while it runs")
    if is_privilege_error(error):
        return LabError(f"the kernel does not let this user trace: {error}", "run this command as root")
    return LabError(f"tracing pid {process.pid} failed: {error}", "run: memleak-lab doctor")
