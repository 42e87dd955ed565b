"""The processes of a group: who is there, who came and went, and what those did who have ended."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, fields, replace
from threading import Event, RLock, Thread
from typing import TYPE_CHECKING

from heap_trace import TraceClosedError, TraceError

from diagnosis.base.errors import LabError
from diagnosis.target.process import Process, Resident
from diagnosis.target.symbols import Symbolizer
from diagnosis.trace.counts import Counts
from diagnosis.trace.named import NamedStacks, NamedTracer, merge_lost, merge_older, merge_snapshots, merge_survivors
from diagnosis.trace.snapshot import Snapshot
from diagnosis.trace.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heap_trace import Lost, Older

    from diagnosis.target.allocator import Allocator
    from diagnosis.target.members import Members
    from diagnosis.trace.snapshot import Survivors
    from diagnosis.trace.tracer import Tracing

# Between two looks for processes that came or went; and no more of the time than this goes into looking.
LOOK_SECONDS = 0.1
_MOST_OF_THE_TIME = 0.05

# At a time. Each has maps of its own in the kernel, and two threads here.
MAX_PROCESSES = 64
# To attach to one is half a second of waiting for the kernel: workers that start together are attached together.
_ATTACHING_THREADS = 8
_SHOWN_REFUSALS = 3


@dataclass
class Member:
    """A process of the group, from when it was seen. ``traced`` is None before its probes are attached, or for ever.

    ``base`` is the resident memory that is not its own growth.
    """

    process: Process
    seen: float
    program: tuple[str, ...]
    base: Resident
    last: Resident
    traced: NamedTracer | None = None
    attaching: bool = True
    leaving: bool = False

    def look(self) -> None:
        """Read its resident memory. That of one that has ended stays as it was last seen."""
        try:
            self.last = self.process.resident()
        except LabError:
            return


@dataclass
class Ended:
    """What processes that have ended did, all together.

    What a worker held was never given back by its code: it stays outstanding, as recycling workers is how such a leak
    is hidden. What another program held has gone with it.
    """

    workers: int = 0
    others: int = 0
    snapshot: Snapshot = field(default_factory=lambda: Snapshot(0.0, {}))
    older: Mapping[int, Older] = field(default_factory=dict)
    lost: Mapping[Lost, int] = field(default_factory=dict)
    grown: Resident = field(default_factory=lambda: Resident(0, 0))
    allocators: dict[str, Allocator] = field(default_factory=dict)
    lost_names: dict[str, str] = field(default_factory=dict)
    _survivors: Mapping[int, Survivors] = field(default_factory=dict)
    _survivors_at: float = 0.0

    def survivors(self, now: float) -> dict[int, Survivors]:
        """What they held when they ended: it grows older."""
        aged = now - self._survivors_at
        return {
            stack: replace(each, oldest_seconds=each.oldest_seconds + aged) for stack, each in self._survivors.items()
        }

    def add(self, traced: NamedTracer, since: Snapshot | None, *, worker: bool) -> None:
        """Keep what one of them did, and a worker's survivors since a snapshot."""
        survivors = traced.survivors(since) if since and worker else {}
        snapshot = traced.snapshot()
        if not worker:
            snapshot = replace(snapshot, counts=_given_back(snapshot.counts), apart={})
        now = time.monotonic()
        self.workers += worker
        self.others += not worker
        self.snapshot = merge_snapshots(now, (self.snapshot, snapshot))
        self.older = merge_older((self.older, traced.older()))
        self.lost = merge_lost((self.lost, traced.tracer.lost()))
        self._survivors = merge_survivors((self.survivors(now), survivors))
        self._survivors_at = now
        self.lost_names |= traced.symbolizer.lost_names()
        self.allocators |= {each.name: each for each in traced.tracer.allocators if each.blind_spots}


class Roster:
    """Traces each process of a group for as long as it runs.

    Args:
        main: the one that has to be traceable.
        members: which processes belong to the group, asked all the time.
        tracing: how each of them is traced.

    Raises:
        LabError: the main process cannot be traced.
    """

    def __init__(self, main: Process, members: Members, tracing: Tracing) -> None:
        self._main, self._members, self._tracing = main, members, tracing
        self._program = main.program()
        self.names = NamedStacks()
        self.lock = RLock()  # of all that follows
        self.ended = Ended()
        self.since: Snapshot | None = None
        self._present: dict[int, Member] = {}
        self._refusals: list[str] = []
        self._missed = self._joined = 0
        self._latest_join = 0.0
        self._closing = Event()
        self._pool = ThreadPoolExecutor(_ATTACHING_THREADS, thread_name_prefix="group")
        self._watcher = Thread(target=self._watch, name="group", daemon=True)
        try:
            member = self._see(main)
            member.base = total(member.base, member.base, sign=-1)
            self._attach(member)
            wait([self._pool.submit(self._join, each) for each in self._newcomers()])
            self._joined = 0
            self._watcher.start()
        except BaseException:
            self.close()
            raise

    def traced(self) -> list[NamedTracer]:
        """The tracers of those that run."""
        return [member.traced for member in self.present() if member.traced]

    def main(self) -> NamedTracer | None:
        """The main process's tracer, while it runs."""
        with self.lock:
            member = self._present.get(self._main.pid)
            return member.traced if member else None

    def present(self) -> list[Member]:
        """Those that run, or have ended and are not yet among the ended ones."""
        with self.lock:
            return list(self._present.values())

    def alive(self) -> bool:
        """True while one of them runs."""
        return self._main.alive() or any(member.process.alive() for member in self.present())

    def resident(self) -> Resident:
        """The main process's resident memory, and what all others have grown by since they were seen."""
        with self.lock:
            sizes = self.ended.grown
            for member in self._present.values():
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
            if self._missed:
                notes.append(f"{self._missed} more ended before they could be traced.")
            if len(self._present) >= MAX_PROCESSES:
                notes.append(f"No more than {MAX_PROCESSES} processes are traced at a time: there may be others.")
            notes += self._refusals[:_SHOWN_REFUSALS]
            if len(self._refusals) > _SHOWN_REFUSALS:
                notes.append(f"{len(self._refusals) - _SHOWN_REFUSALS} other processes are not traced either.")
            return notes

    def look(self) -> None:
        """Attach to those that came, and keep what those did that have ended or become other programs."""
        for member in self._newcomers():
            self._pool.submit(self._join, member)
        for member in self.present():
            if member.process.program() == member.program:
                member.look()
            elif not member.attaching and not member.leaving:
                member.leaving = True
                self._pool.submit(self._leave, member)

    def close(self) -> None:
        """Detach every probe."""
        self._closing.set()
        if self._watcher.is_alive():
            self._watcher.join()
        self._pool.shutdown()
        with ThreadPoolExecutor(_ATTACHING_THREADS) as pool:
            for traced in self.traced():
                pool.submit(_close, traced)

    def _watch(self) -> None:
        pause = LOOK_SECONDS
        while not self._closing.wait(pause):
            began = time.monotonic()
            self.look()
            pause = max(LOOK_SECONDS, (time.monotonic() - began) / _MOST_OF_THE_TIME)

    def _see(self, process: Process) -> Member:
        resident = process.resident()
        member = Member(process, time.monotonic(), process.program(), resident, resident)
        with self.lock:
            self._present[process.pid] = member
        return member

    def _newcomers(self) -> list[Member]:
        """Those that were not there at the last look, as far as there is room for them."""
        found = []
        for pid in sorted(set(self._members()) - self._present.keys()):
            if len(self._present) >= MAX_PROCESSES:
                break
            try:
                found.append(self._see(Process(pid)))
            except LabError:
                continue  # it has ended: its parent has not been told yet
        return found

    def _attach(self, member: Member) -> None:
        tracer = Tracer(member.process, self._tracing)
        symbolizer = Symbolizer(member.process)
        symbolizer.refresh()
        with self.lock:
            member.traced = NamedTracer(tracer, symbolizer, self.names)
            member.attaching = False

    def _join(self, member: Member) -> None:
        try:
            self._attach(member)
        except LabError as error:
            with self.lock:
                member.attaching = False
                if member.process.alive():
                    self._refusals.append(f"pid {member.process.pid} is not traced: {error}")
                else:
                    self._missed += 1
            return
        with self.lock:
            self._joined += 1
            self._latest_join = max(self._latest_join, time.monotonic() - member.seen + LOOK_SECONDS)

    def _leave(self, member: Member) -> None:
        """Keep what it did. What it has become, if it runs, is seen at the next look as a process that came."""
        # A fork of the main process, which runs its program: code and stack begin where the main one's do.
        worker = not member.process.alive() and member.program == self._program
        if member.traced:
            member.traced.tracer.detach()  # another program's calls are not its own
        with self.lock:
            if member.traced:
                try:
                    self.ended.add(member.traced, self.since, worker=worker)
                except (TraceError, TraceClosedError) as error:
                    self._refusals.append(f"what pid {member.process.pid} did before it ended is not known: {error}")
            if worker:
                self.ended.grown = total(self.ended.grown, total(member.last, member.base, sign=-1))
            self._present.pop(member.process.pid, None)
        if member.traced:
            _close(member.traced)


def total(one: Resident, other: Resident, *, sign: int = 1) -> Resident:
    """The sums of two processes' sizes, or with sign -1 their differences."""
    return Resident(*(getattr(one, each.name) + sign * getattr(other, each.name) for each in fields(Resident)))


def _given_back(counts: Mapping[int, Counts]) -> dict[int, Counts]:
    return {
        stack: Counts(each.allocations, each.allocated_bytes, each.allocations, each.allocated_bytes)
        for stack, each in counts.items()
    }


def _close(traced: NamedTracer) -> None:
    traced.tracer.close()
    traced.symbolizer.close()
