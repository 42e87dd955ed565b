"""A trace's probes: in every allocator that the process has mapped, and in those that it maps later."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from dataclasses import replace
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from heap_trace import TraceClosedError, TraceError

from diagnosis.base.errors import LabError
from diagnosis.target.allocator import find_allocators, find_more_allocators
from diagnosis.trace.attaching import attach_allocator
from diagnosis.trace.sharers import Sharers

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from heap_trace import HeapTrace, Signature

    from diagnosis.target.allocator import Allocator, Surveys
    from diagnosis.target.process import Process

# Between two looks at what is mapped; and no more of the time than this goes into looking.
LOOK_SECONDS = 0.25
_MOST_OF_THE_TIME = 0.02

# Of what happens again and again in days, the last ones are told.
MAX_NOTES = 8


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
        self._attached: defaultdict[tuple[str, int], list[int]] = defaultdict(list)  # by file
        self._notes: tuple[str, ...] = ()
        self._sharers = Sharers(process)
        self._unloaded = 0
        self._longest_miss = 0.0
        self._program = process.program()
        self._thread = process.thread
        self._trace: HeapTrace | None = None
        self._looking = Lock()
        self._closing = Event()
        self._watcher = Thread(target=self._watch, name="allocators", daemon=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else a reader of the counts has to know."""
        notes = (*self._notes, *self._sharers.notes)
        if not self._unloaded:
            return notes
        missed = f"up to {self._longest_miss:.1f}s of the calls of each are not counted"
        return (*notes, f"{self._unloaded} allocators were loaded and unloaded meanwhile: {missed}.")

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
        self._sharers.look(trace, self.allocators, at_once=True)

    def _attach(self, trace: HeapTrace, allocator: Allocator) -> None:
        number = attach_allocator(trace, self._process, allocator, thread=self._thread)
        if number is not None:
            self._attached[allocator.file].append(number)

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
            began = time.thread_time()  # of work: to wait for the kernel takes nothing from the process
            try:
                self.look()
            except TraceClosedError:
                return
            except OSError:
                continue  # no descriptor is free: what came is attached at a later look
            pause = max(LOOK_SECONDS, (time.thread_time() - began) / _MOST_OF_THE_TIME)

    def look(self) -> None:
        """Attach to the allocators in files that were mapped since the last look; detach from what was unmapped."""
        with self._looking, contextlib.suppress(LabError):  # it has ended: its trace is read, and then closed
            if self._process.program() != self._program:
                return  # what another program maps after an exec is not this trace's
            self._follow_thread()
            began = time.monotonic()
            code = self._process.mapped_code()
            if code != self._known:
                self._follow_files(code, began)
            if self._trace:
                self._sharers.look(self._trace, self.allocators)

    def _follow_files(self, code: frozenset[tuple[str, int]], began: float) -> None:
        # First: the kernel keeps a file that has probes, and its number with it.
        self._detach(self._known - code)
        found = find_more_allocators(
            self._process, self._known & code, self._custom, at_entry=self._at_entry, surveys=self._surveys
        )
        self._known = code
        for allocator in found:
            self._attach_late(allocator, began)

    def _detach(self, files: Collection[tuple[str, int]]) -> None:
        if self._trace is None:
            return
        for file in files:
            self._sharers.forget_file(self._trace, file)
            for number in self._attached.pop(file, ()):
                self._trace.detach_file(number)
        if gone := [allocator for allocator in self.allocators if allocator.file in files]:
            self._unloaded += len(gone)
            self.allocators = tuple(each for each in self.allocators if each not in gone)

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
            self._longest_miss = max(self._longest_miss, seconds)
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
            found = find_allocators(self._process, self._custom, at_entry=self._at_entry, surveys=self._surveys)
            for number in [number for numbers in self._attached.values() for number in numbers]:
                self._trace.detach_file(number)  # they see no call any more, and the kernel keeps them
            self._attached.clear()
            for allocator in found:
                self._attach(self._trace, allocator)
        except TraceError as error:
            self._note(f"{note}: from then on calls are not counted ({error}).")
            return
        seconds = time.monotonic() - began + LOOK_SECONDS
        self._note(
            f"{note}: up to {seconds:.1f}s of calls are not counted, until the probes were attached by another one."
        )

    def _note(self, note: str) -> None:
        self._notes = (*self._notes, note)[-MAX_NOTES:]
