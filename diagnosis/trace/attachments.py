"""A trace's probes: in every allocator that the process has mapped, and in those that it maps later."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from heap_trace import TraceClosedError, TraceError

from diagnosis.base.errors import LabError
from diagnosis.target.allocator import find_allocators, find_more_allocators

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heap_trace import HeapTrace, Signature

    from diagnosis.target.allocator import Allocator, Surveys
    from diagnosis.target.process import Process

# Between two looks at what is mapped; and no more of the time than this goes into looking.
LOOK_SECONDS = 0.25
_MOST_OF_THE_TIME = 0.02


def attach_allocator(
    trace: HeapTrace, process: Process, allocator: Allocator, *, thread: int | None = None, again: bool = False
) -> None:
    """Attach the probes of one allocator in one process.

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
        return
    mapped = () if again else process.code_maps()
    code = [(mapping.start, mapping.end) for mapping in mapped if mapping.file == allocator.file]
    trace.attach(thread or process.pid, str(allocator.path), [placed.probe for placed in allocator.probes], code)


class Attachments:
    """Where the probes of one trace are. Close it before the trace.

    Args:
        process: whose allocators.
        custom: functions that the user named, by symbol.
        at_entry: place each probe at its function's first instruction.
        surveys: what is known of files already, and is added to.

    Raises:
        LabError: there is no allocator to probe.
    """

    def __init__(
        self,
        process: Process,
        custom: Mapping[str, Signature],
        *,
        at_entry: bool,
        surveys: Surveys | None = None,
    ) -> None:
        self._process, self._custom, self._at_entry = process, custom, at_entry
        self._surveys = surveys
        # Read before: what comes in between is looked at again, which does no harm.
        self._known = process.mapped_code()
        self.allocators: tuple[Allocator, ...] = find_allocators(process, custom, at_entry=at_entry, surveys=surveys)
        self.notes: tuple[str, ...] = ()
        self._program = process.program()
        self._thread = process.thread
        self._trace: HeapTrace | None = None
        self._looking = Lock()
        self._closing = Event()
        self._watcher = Thread(target=self._watch, name="allocators", daemon=True)

    @property
    def allow_session(self) -> bool:
        """False where the first thread has ended: the kernel asks that one whether a session's probes are for it."""
        return self._thread == self._process.pid

    def attach(self, trace: HeapTrace) -> None:
        """Attach the probes of what is mapped.

        Raises:
            TraceError: the kernel does not take one of them.
        """
        self._trace = trace
        for allocator in self.allocators:
            self._attach(trace, allocator)

    def _attach(self, trace: HeapTrace, allocator: Allocator, *, again: bool = False) -> None:
        attach_allocator(trace, self._process, allocator, thread=self._thread, again=again)

    def start(self) -> None:
        """Begin to look for what is mapped later, in a thread: to attach a file's probes can take a second."""
        self._watcher.start()

    def close(self) -> None:
        """End that thread."""
        self._closing.set()
        if self._watcher.is_alive():
            self._watcher.join()

    def _watch(self) -> None:
        pause = LOOK_SECONDS
        while not self._closing.wait(pause):
            began = time.monotonic()
            try:
                self.look()
            except TraceClosedError:
                return
            pause = max(LOOK_SECONDS, (time.monotonic() - began) / _MOST_OF_THE_TIME)

    def look(self) -> None:
        """Attach to the allocators in files that have been mapped since the last look."""
        with self._looking, contextlib.suppress(LabError):  # it has ended: its trace is read, and then closed
            if self._process.program() != self._program:
                return  # what another program maps after an exec is not this trace's
            self._follow_thread()
            began = time.monotonic()
            code = self._process.mapped_code()
            if not code - self._known:
                return
            found = find_more_allocators(self._process, self._known, self._custom, at_entry=self._at_entry)
            self._known |= code
            for allocator in found:
                self._attach_late(allocator, began)

    def _attach_late(self, allocator: Allocator, began: float) -> None:
        if self._trace is None:
            return
        spots = allocator.blind_spots
        try:
            self._attach(self._trace, allocator)
        except TraceError as error:
            if not self._process.alive():
                return
            spots = (*spots, f"{allocator.name} was loaded meanwhile, and cannot be traced: {error}")
        else:
            seconds = time.monotonic() - began + LOOK_SECONDS
            spots = (
                *spots,
                f"{allocator.name} was loaded meanwhile: up to {seconds:.1f}s of its calls are not counted",
            )
        self.allocators = (*self.allocators, replace(allocator, blind_spots=spots))

    def _follow_thread(self) -> None:
        """Attach anew through another thread where the one that the probes were attached through has ended.

        The kernel finds the process's memory by that thread. A session's probes stay, as they are in the memory itself.
        """
        thread = self._process.thread
        if self._trace is None or thread == self._thread or self._trace.uses_session:
            return
        self._thread = thread
        began = time.monotonic()
        note = f"The thread that the kernel found pid {self._process.pid} by has ended"
        try:
            # Anew: the paths led through that thread.
            for allocator in find_allocators(self._process, self._custom, at_entry=self._at_entry):
                self._attach(self._trace, allocator, again=True)
        except TraceError as error:
            self.notes = (*self.notes, f"{note}: from then on calls are not counted ({error}).")
            return
        seconds = time.monotonic() - began + LOOK_SECONDS
        note = f"{note}: up to {seconds:.1f}s of calls are not counted, until the probes were attached by another one."
        self.notes = (*self.notes, note)
