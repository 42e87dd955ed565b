"""The processes of a group: who is there, and who came and went."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event, RLock, Thread
from typing import TYPE_CHECKING

from heap_trace import TraceClosedError

from diagnosis.base.errors import LabError
from diagnosis.target.process import Process
from diagnosis.target.sharing import share_memory
from diagnosis.target.symbols import Symbolizer
from diagnosis.trace.arrivals import Arrivals
from diagnosis.trace.ended import Ended, Legacy, Refusals, total
from diagnosis.trace.footprints import FootprintReader
from diagnosis.trace.member import Member
from diagnosis.trace.named import NamedStacks, NamedTracer
from diagnosis.trace.programs import Programs
from diagnosis.trace.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from diagnosis.target.members import Members
    from diagnosis.target.process import Resident
    from diagnosis.trace.snapshot import Snapshot
    from diagnosis.trace.tracer import Tracing

# Between two looks for processes that came or went; and no more of the time than this goes into looking.
LOOK_SECONDS = 0.1
_MOST_OF_THE_TIME = 0.05

# At a time. Each has maps of its own in the kernel, and two threads here.
MAX_PROCESSES = 64
# Those that came when there was no room, and may yet have it.
MAX_WAITING = 1024
# To attach to one or to detach is waiting for the kernel: workers that start together are attached together.
_THREADS = 8
# Programs that lie ready for those that come. What has served one that has ended lies ready as well.
_SPARE_PROGRAMS = 2


class Roster:
    """Traces each process of a group for as long as it runs.

    Args:
        main: the one that has to be traceable.
        members: which processes belong to the group, asked all the time.
        tracing: how each of them is traced.
        warn: is given what probes can do to the main one, before they are attached.

    Raises:
        LabError: the main process cannot be traced.
    """

    def __init__(self, main: Process, members: Members, tracing: Tracing, warn: Callable[[str], object]) -> None:
        self._main, self._members, self._tracing = main, members, tracing
        self._program = main.program()
        self.names = NamedStacks()
        self._programs = Programs(tracing, spares=_SPARE_PROGRAMS, surveys={})
        # Of the sums: a process is present or among the ended. Who looks for processes does not wait for who sums.
        self.lock = RLock()
        self.ended = Ended()
        self.since: Snapshot | None = None
        self.footprints = FootprintReader()
        self._present: dict[int, Member] = {}
        self._arrivals = Arrivals()
        self._refusals = Refusals()
        self._joined = 0
        self._missed = 0
        # Told of, and to be looked at again: they share their parent's memory, or there was no room for them.
        self._again: set[int] = set()
        self._latest_join = 0.0
        self._deadline = float("inf")
        self._closing = Event()
        # Apart: those that end at once do not keep those that come from being attached to.
        self._joining = ThreadPoolExecutor(_THREADS, thread_name_prefix="joining")
        self._leaving = ThreadPoolExecutor(_THREADS, thread_name_prefix="leaving")
        self._watcher = Thread(target=self._watch, name="group", daemon=True)
        try:
            member = self._see(main)
            member.base = total(member.base, member.base, sign=-1)
            self._attach(member, warn)
            self._arrivals.follow(main.pid)
            wait([self._joining.submit(self._join, each) for each in self._newcomers(self._members())])
            self._programs.wait()
            self._joined, self._latest_join = 0, 0.0
            self._missed = 0
            self._watcher.start()
        except BaseException:
            self.close()
            raise

    def traced(self) -> list[NamedTracer]:
        """The tracers of those that run."""
        return [member.traced for member in self.present() if member.traced]

    def main(self) -> NamedTracer | None:
        """The main process's tracer, while it runs."""
        member = self._present.get(self._main.pid)
        return member.traced if member else None

    def present(self) -> list[Member]:
        """Those that run, or have ended and are not yet among the ended ones."""
        return list(self._present.values())

    def alive(self) -> bool:
        """True while one of them runs."""
        return self._main.alive() or any(member.process.alive() for member in self.present())

    def resident(self) -> Resident:
        """The main process's resident memory, and what all others have grown by since they were seen."""
        with self.lock:
            sizes = self.ended.grown
            for member in self.present():
                member.look()
                sizes = total(sizes, total(member.last, member.base, sign=-1))
            return sizes

    def notes(self) -> list[str]:
        """Which processes are in the numbers, and which are not."""
        with self.lock:
            ended, others = self.ended.workers, self.ended.others
            processes = len(self.traced()) + ended + others
            notes = [f"The numbers are of {processes} processes together."] if processes > 1 else []
            if ended:
                notes.append(f"{ended} of them were workers that have ended: what they held then stays outstanding.")
            if others:
                notes.append(f"{others} of them have ended, or run another program now: what they held is given back.")
            if self._joined:
                late = f"{self._latest_join:.1f}s after its start at the latest"
                notes.append(f"{self._joined} of them started meanwhile: each is counted from {late}.")
            if missed := self._missed + self._arrivals.untold():
                notes.append(f"{missed} more ended before they could be traced.")
            if untold := self.names.untold:
                notes.append(f"{untold} more call stacks are counted as one without a name: no more are kept apart.")
            if len(self._present) >= MAX_PROCESSES:
                notes.append(f"No more than {MAX_PROCESSES} processes are traced at a time: there may be others.")
            return [*notes, *self._refusals.notes()]

    def look(self) -> None:
        """Attach to those that came, and keep what those did that have ended or become other programs."""
        self._welcome(self._members())
        for member in self.present():
            program = member.process.program()
            if program == member.program:
                member.look()
            elif not member.attaching and not member.leaving:
                member.leaving = True
                # A fork of the main process, which runs its program: code and stack begin where the main one's do.
                worker = not program and member.program == self._program
                self._leaving.submit(self._leave, member, worker=worker)

    def set_deadline(self, seconds: float) -> None:
        """Have the probes of all, also of those that come, detached soon after a time of the monotonic clock."""
        with self.lock:
            self._deadline = seconds
            for traced in self.traced():
                traced.tracer.set_deadline(seconds)

    def detach(self) -> None:
        """Detach every probe, and attach no more."""
        self._detach_present()
        self._stop()
        self._detach_present()  # of those who were being attached to meanwhile

    def _detach_present(self) -> None:
        with self.lock:
            for traced in self.traced():
                traced.tracer.detach()

    def _stop(self) -> None:
        """Nobody comes or leaves after this."""
        self._closing.set()
        if self._watcher.is_alive():
            self._watcher.join()
        for pool in (self._joining, self._leaving):
            pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Detach every probe."""
        self._stop()
        with ThreadPoolExecutor(_THREADS) as pool:
            for traced in self.traced():
                pool.submit(_close, traced)
        self._programs.close()
        self._arrivals.close()

    def _welcome(self, members: Collection[int] = ()) -> None:
        for member in self._newcomers(members):
            self._joining.submit(self._join, member)

    def _watch(self) -> None:
        pause = LOOK_SECONDS
        while not self._closing.is_set():
            try:
                self._arrivals.wait(pause, self._closing, self._welcome)
                began = time.thread_time()  # of work: what it waits for others takes nothing from anybody
                self.look()
            except OSError:  # no descriptor is free: one may be at the next look
                self._closing.wait(LOOK_SECONDS)
                continue
            pause = max(LOOK_SECONDS, (time.thread_time() - began) / _MOST_OF_THE_TIME)

    def _see(self, process: Process) -> Member:
        resident = process.resident()
        member = Member(process, process.started(), process.program(), resident, resident)
        self._present[process.pid] = member
        return member

    def _newcomers(self, members: Collection[int]) -> list[Member]:
        """Those that are new, of the members and of those that the kernel told of, as far as there is room."""
        found = []
        # Told after the members were read: of each of them is told by now, so that none is met a second time.
        told = self._arrivals.take() | self._again
        self._again.clear()
        for pid in sorted({*members, *told} - self._present.keys()):
            if len(self._present) >= MAX_PROCESSES:
                if pid in told:
                    self._wait_for_room(pid)
                continue
            try:
                process = Process(pid)
                if share_memory(pid, process.parent()):
                    self._again.add(pid)  # it is traced with that one, until it execs
                    continue
                found.append(self._see(process))
            except LabError:
                if pid in told:  # others have been seen, and wait for their parents to be told
                    self._missed += 1
            except OSError:  # no descriptor is free
                self._wait_for_room(pid)
            else:
                self._arrivals.follow(pid)
        return found

    def _wait_for_room(self, pid: int) -> None:
        if len(self._again) < MAX_WAITING and Path("/proc", str(pid)).exists():
            self._again.add(pid)
        else:
            self._missed += 1

    def _attach(self, member: Member, warn: Callable[[str], object] = lambda _: None) -> None:
        symbolizer = Symbolizer(member.process)
        came = time.monotonic() if self._watcher.is_alive() else 0.0
        try:
            symbolizer.refresh()  # before: what is counted of one that ends soon can then be named
            tracer = Tracer(member.process, self._tracing, warn, programs=self._programs)
        except BaseException:
            symbolizer.close()
            raise
        tracer.set_deadline(self._deadline)
        member.traced = NamedTracer(tracer, symbolizer, self.names, came)
        member.attaching = False

    def _join(self, member: Member) -> None:
        try:
            self._attach(member)
        except (LabError, OSError) as error:
            with self.lock:
                member.attaching = False
                if member.process.alive():
                    self._refusals.add(f"pid {member.process.pid} is not traced: {error}")
                else:
                    self._missed += 1
            return
        self.footprints.joined(member)
        with self.lock:
            self._joined += 1
            self._latest_join = max(self._latest_join, time.clock_gettime(time.CLOCK_BOOTTIME) - member.started)

    def _leave(self, member: Member, *, worker: bool) -> None:
        """Keep what it did. What it has become, if it runs, is seen at the next look as a process that came."""
        legacy = None
        if member.traced:
            member.traced.tracer.detach()  # another program's calls are not its own
            try:
                legacy = Legacy.of(member.traced, self.since, worker=worker)
            except (OSError, TraceClosedError) as error:
                self._refusals.add(f"what pid {member.process.pid} did before it ended is not known: {error}")
        with self.lock:
            if legacy:
                self.ended.add(legacy)
            if worker:
                self.ended.grown = total(self.ended.grown, total(member.last, member.base, sign=-1))
            self.footprints.left(member)
            self._present.pop(member.process.pid, None)
        if member.traced:
            _close(member.traced)


def _close(traced: NamedTracer) -> None:
    traced.tracer.close()
    traced.symbolizer.close()
