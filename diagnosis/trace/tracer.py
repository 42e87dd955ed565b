"""Traces one process: probes in, counts by call stack out."""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from heap_trace import Ending, Older, TraceClosedError, TraceError, UnwindMode

from diagnosis.base.closing import Closing
from diagnosis.base.errors import LabError
from diagnosis.trace.attachments import Attachments
from diagnosis.trace.counts import Counts
from diagnosis.trace.guard import Watchdog, raised_priority
from diagnosis.trace.mapped import MappedRanges, kind_at
from diagnosis.trace.programs import Programs
from diagnosis.trace.python_names import PythonNames
from diagnosis.trace.refusals import explain, refuse_if_endangered, risk_of_returns
from diagnosis.trace.snapshot import NANOSECONDS, Snapshot, Survivors, since_age, with_mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from heap_trace import Lost, Signature, Stack, Unwound

    from diagnosis.target.allocator import Allocator
    from diagnosis.target.process import Process
    from diagnosis.target.python_code import PythonStack
    from diagnosis.trace.mapped import MappedRange

# The ring of mapping events has room for 75,000, that of stacks for 4 MiB of frames (of one process among many: an
# eighth): a busy process fills either between two distant samples.
DRAIN_SECONDS = 0.1

# A library that is loaded is used at once: for a while after the mappings have changed, unwind tables follow faster. At
# a tenth of a second, the modules that Python loads at its start cost 6 % of its first 18,000 stacks their callers.
LOOK_SECONDS = 0.01
LOOK_FOR_SECONDS = 2.0
MAX_BLOCKS = 1 << 20
MAX_STACKS = (1 << 18) - 1  # and one for all others: the kernel rounds the room up to a power of two


@dataclass(frozen=True)
class Tracing:
    """How to trace.

    Attributes:
        max_blocks: live heap blocks that can be tracked at a time.
        max_stacks: different call stacks that are counted apart.
        min_bytes: smaller blocks are left out.
        allow_session: False for an entry and a return program, as on kernels before 6.13.
        at_entry: True for every probe at its function's entry, whatever it costs there.
        max_rate: allocator calls a second above which the probes are detached; None for any number.
        custom: functions of an allocator of the program's own, by symbol.
        unwind: by unwind tables, or, with OFF, by frame pointers alone.
    """

    max_blocks: int = MAX_BLOCKS
    max_stacks: int = MAX_STACKS
    min_bytes: int = 0
    allow_session: bool = True
    at_entry: bool = False
    max_rate: float | None = None
    custom: Mapping[str, Signature] = field(default_factory=dict)
    unwind: UnwindMode = UnwindMode.ON


class Tracer(Closing):
    """Probes in one process for as long as it is open. Use it as a context manager. Any thread may read it.

    Args:
        process: whose.
        tracing: how.
        warn: is given, before the first probe is attached, what probes can do to this process on this kernel.
        programs: where the loaded program comes from, and goes back to; None for one of its own.

    Raises:
        LabError: the process cannot be traced; the text holds what the kernel or libbpf said, and a remedy.
    """

    def __init__(
        self,
        process: Process,
        tracing: Tracing = Tracing(),
        warn: Callable[[str], object] = lambda _: None,
        *,
        programs: Programs | None = None,
    ) -> None:
        self.process = process
        programs = programs or Programs(tracing)
        self._attachments = Attachments(process, tracing.custom, at_entry=tracing.at_entry, surveys=programs.surveys)
        self._python = PythonNames(process)
        self._mapped = MappedRanges(partial(kind_at, process))
        self._stacks: dict[int, Stack] = {}
        self._lock = Lock()  # of the two above
        self._closing = Event()
        self._drainer = Thread(target=self._drain, name="mappings", daemon=True)
        refuse_if_endangered(process)
        with ExitStack() as stack:
            stack.callback(self._python.close)
            stack.enter_context(raised_priority())
            try:
                program = programs.take(process, self._python.frames, allow_session=self._attachments.allow_session)
                stack.callback(programs.give_back, program, process)
                self._trace, self._tables = program.trace, program.tables
                self._notes = (*self._python.notes, *program.notes)  # of what this trace cannot do
                uses_session, several, others = self._trace.uses_session, programs.several, programs.others
                if risk := risk_of_returns(process, uses_session=uses_session, several=several, others=others):
                    warn(risk)
                self._attachments.attach(self._trace)
            except TraceError as error:
                raise explain(error, process) from error
            self._watchdog = Watchdog(self.detach, self._trace.calls, tracing.max_rate)
            # Registered before they start: an interruption can come before start() returns.
            stack.callback(self._watchdog.close)
            self._watchdog.start()
            stack.callback(self._stop_draining)
            self._drainer.start()
            stack.callback(self._attachments.close)
            self._attachments.start()
            self._close = stack.pop_all().close

    @property
    def allocators(self) -> tuple[Allocator, ...]:
        """What is traced: the allocators that were mapped when the trace began, and those that came later."""
        return self._attachments.allocators

    @property
    def notes(self) -> tuple[str, ...]:
        """What else a reader of the counts has to know: of the probes, and of how stacks are taken."""
        return (*self._notes, *self._python.limits, *self._attachments.notes)

    def look_for_allocators(self) -> None:
        """Attach to what has been mapped since the last look. It also happens by itself, a few times a second."""
        self._attachments.look()

    def _drain(self) -> None:
        """Keep the rings from filling up between snapshots, and the unwind tables as the process's mappings are."""
        drain_at, changed_at = 0.0, time.monotonic()
        while not self._closing.wait(self._pause(changed_at)):
            now = time.monotonic()
            try:
                changed = self._tables is not None and self._tables.refresh_if_missing()
                if now >= drain_at:
                    drain_at = now + DRAIN_SECONDS
                    with self._lock:
                        self._read_rings()
                    changed |= self._tables is not None and self._tables.refresh()
                if changed:
                    changed_at = now
            except (TraceError, TraceClosedError):
                return  # the next snapshot meets the same error, and raises it where it can be handled
            except (LabError, OSError):
                continue  # it has ended, and what it had mapped is known; or no descriptor is free for now

    def _pause(self, changed_at: float) -> float:
        follows = self._tables is not None and time.monotonic() - changed_at < LOOK_FOR_SECONDS
        return LOOK_SECONDS if follows else DRAIN_SECONDS

    def _read_rings(self) -> None:
        self._mapped.apply(self._trace.mappings())
        new = self._trace.new_stacks()
        self._stacks.update(new)
        self._python.add(new)

    def _stop_draining(self) -> None:
        """After this nothing reads the rings any more."""
        self._closing.set()
        if self._drainer.is_alive():
            self._drainer.join()

    def snapshot(self) -> Snapshot:
        """The counts of every stack now."""
        seconds = time.monotonic()
        counts: defaultdict[int, Counts] = defaultdict(Counts)
        untracked = untracked_bytes = 0
        counters = self._trace.counters()
        older = self._trace.older().values()
        for stack, value in counters.items():
            counts[stack] = Counts(
                value.allocations,
                value.allocated_bytes,
                value.frees,
                value.freed_bytes,
                value.replaced,
                value.replaced_bytes,
            )
            untracked += value.untracked
            untracked_bytes += value.untracked_bytes
        with self._lock:
            self._read_rings()
            for stack, mapped in self._mapped.counts.items():
                counts[stack] = counts[stack] + mapped
            apart = {
                kind: {stack: each + Counts() for stack, each in of_kind.items()}
                for kind, of_kind in self._mapped.apart.items()
            }
        return Snapshot(
            seconds,
            counts,
            Older(sum(each.frees for each in older), sum(each.bytes for each in older), sum(o.unsized for o in older)),
            self._trace.older_sizes(),
            (untracked, untracked_bytes),
            apart,
        )

    def survivors(self, since: Snapshot) -> dict[int, Survivors]:
        """What lives of the blocks taken after a snapshot, by stack. Reads every live block: for once in a while."""
        since_ns, now_ns = int(since.seconds * NANOSECONDS), time.monotonic_ns()
        found = {
            stack: Survivors(
                each.blocks,
                each.bytes,
                (now_ns - each.oldest_ns) / NANOSECONDS if each.oldest_ns else since_age(since_ns, now_ns),
                each.third_blocks,
                each.third_bytes,
            )
            for stack, each in self._trace.survivors(since_ns, now_ns).items()
        }
        with self._lock:
            self._read_rings()
            mappings = [each for each in self._mapped.survivors() if each[2] >= since_ns]
        for stack, size, time_ns in mappings:
            found[stack] = with_mapping(found.get(stack), size, time_ns, since_ns, now_ns)
        return found

    def older(self) -> Mapping[int, Older]:
        """Frees of blocks from before the trace, by the address that the freeing call returns to; 0: not kept."""
        return self._trace.older()

    def ranges(self) -> list[MappedRange]:
        """What was mapped under the trace and still is."""
        with self._lock:
            self._read_rings()
            return self._mapped.ranges()

    def frames(self, stack: int) -> tuple[int, ...]:
        """The return addresses of a stack of a snapshot, innermost first; none for the unknown stack."""
        found = self._stacks.get(stack)
        return found.frames if found else ()

    def ending(self, stack: int) -> Ending:
        """How a stack of a snapshot ended."""
        found = self._stacks.get(stack)
        if found is None:
            return Ending.UNKNOWN
        if found.ending is Ending.NOT_LOADED and self._tables and not self._tables.was_code(found.frames[-1]):
            return Ending.UNREADABLE  # the address was no return address
        return found.ending

    def python(self, stack: int) -> PythonStack | None:
        """The Python functions of a stack of a snapshot; None where it has none."""
        return self._python.of(stack)

    def unwound(self) -> Unwound:
        """What the program has unwound so far."""
        return self._trace.unwound()

    def lost(self) -> Mapping[Lost, int]:
        """How many events were not counted, or not in full, by reason."""
        return self._trace.lost()

    def fatal_signal(self) -> str:
        """SIGILL or SIGTRAP where that ended the process, which probes can be the cause of; "" else."""
        number = self._trace.fatal_signal()
        return signal.Signals(number).name if number else ""

    def set_deadline(self, seconds: float) -> None:
        """Have the probes detached soon after a time of the monotonic clock, whatever keeps this program from it."""
        self._watchdog.set_deadline(seconds)

    @property
    def detached(self) -> str:
        """Why the probes were detached before their time; "" while they were not."""
        return self._watchdog.reason

    def detach(self) -> None:
        """Detach the probes: the process runs at full speed again. What was counted can still be read."""
        self._attachments.close()
        self._trace.detach()

    def close(self) -> None:
        """Detach the probes, and free what was counted."""
        self._close()
