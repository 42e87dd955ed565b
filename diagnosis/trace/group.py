"""Traces several processes as one: a server and its workers, all of a container, also those that start later."""

from __future__ import annotations

import time
from dataclasses import astuple, fields
from typing import TYPE_CHECKING

from heap_trace import Ending, Unwound

from diagnosis.base.closing import Closing
from diagnosis.base.errors import LabError
from diagnosis.target.symbols import SymbolizedStack
from diagnosis.trace.named import merge_lost, merge_older, merge_snapshots, merge_survivors
from diagnosis.trace.roster import Roster
from diagnosis.trace.tracer import Tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from heap_trace import Lost, Older
    from heap_trace.page_faults import FaultStack

    from diagnosis.target.allocator import Allocator
    from diagnosis.target.members import Members
    from diagnosis.target.memory import Memory
    from diagnosis.target.process import Process, Resident
    from diagnosis.target.python_code import PythonStack
    from diagnosis.trace.footprints import Footprints
    from diagnosis.trace.mapped import MappedRange
    from diagnosis.trace.snapshot import Snapshot, Survivors


class Group(Closing):
    """Tracers of several processes, which read as one: it is `Measured`, and the `Names` of what it measures.

    Stacks are merged by name. Use it as a context manager. Any thread may read it.

    Args:
        main: the process whose name the report has.
        members: which processes belong to it, asked all the time.
        tracing: how each of them is traced.
        warn: is given, before the first probe is attached, what probes can do to the main process.

    Raises:
        LabError: the main process cannot be traced.
    """

    def __init__(
        self,
        main: Process,
        members: Members,
        tracing: Tracing = Tracing(),  # noqa: B008 - frozen
        warn: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._roster = Roster(main, members, tracing, warn)
        self.process = GroupProcess(main, self._roster)

    def snapshot(self) -> Snapshot:
        """What every stack had taken and given back by now, over all processes."""
        roster = self._roster
        with roster.lock:
            traced = (each.snapshot() for each in roster.traced())
            taken = merge_snapshots(time.monotonic(), (roster.ended.snapshot, *traced))
            roster.since = roster.since or taken
            return taken

    def survivors(self, since: Snapshot) -> dict[int, Survivors]:
        """What was not given back of the blocks that were taken after a snapshot; of ended processes, at their end."""
        roster = self._roster
        with roster.lock:
            traced = [each.survivors(since) for each in roster.traced()]
            return merge_survivors((roster.ended.survivors(time.monotonic()), *traced))

    def older(self) -> Mapping[int, Older]:
        """Frees of blocks from before the trace, by the number of the freeing function's stack."""
        with self._roster.lock:
            return merge_older((self._roster.ended.older, *(each.older() for each in self._roster.traced())))

    def ranges(self) -> list[MappedRange]:
        """What was mapped under the trace and still is, in those that run: at addresses that are `apart`."""
        with self._roster.lock:
            return [mapped for each in self._roster.traced() for mapped in each.ranges()]

    def lost(self) -> Mapping[Lost, int]:
        """How many events were not counted, or not in full, by reason."""
        with self._roster.lock:
            return merge_lost((self._roster.ended.lost, *(each.tracer.lost() for each in self._roster.traced())))

    def frames(self, stack: int) -> tuple[int, ...]:
        """What `symbolize` knows a stack by: its number. Each process has addresses of its own."""
        return (stack,)

    @property
    def allocators(self) -> tuple[Allocator, ...]:
        """What is traced, by the file's name: workers share their libraries."""
        with self._roster.lock:
            present = {each.name: each for traced in self._roster.traced() for each in traced.tracer.allocators}
            return tuple({**self._roster.ended.allocators, **present}.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """Which processes are in the numbers, and what else a reader has to know."""
        with self._roster.lock:
            of_each = (note for each in self._roster.traced() for note in each.tracer.notes)
            return (*self._roster.notes(), *dict.fromkeys(of_each))

    def look_for_allocators(self) -> None:
        """Attach to what the processes have mapped since the last look."""
        with self._roster.lock:
            for each in self._roster.traced():
                each.tracer.look_for_allocators()

    def set_deadline(self, seconds: float) -> None:
        """Have the probes of all, also of those that come, detached soon after a time of the monotonic clock."""
        self._roster.set_deadline(seconds)

    @property
    def detached(self) -> str:
        """Why the probes of one of them were detached before their time; "" while none were."""
        return next((each.tracer.detached for each in self._roster.traced() if each.tracer.detached), "")

    def fatal_signal(self) -> str:
        """SIGILL or SIGTRAP where that ended one of them; "" else."""
        with self._roster.lock:
            present = (each.tracer.fatal_signal() for each in self._roster.traced())
            return self._roster.ended.fatal_signal or next(filter(None, present), "")

    def detach(self) -> None:
        """Detach every probe, and attach no more. What was counted can still be read."""
        self._roster.detach()

    def refresh(self) -> None:
        """Read what is mapped now."""
        for each in self._roster.traced():
            each.symbolizer.refresh()
        if self._roster.since is None:
            # To name what was seen by now can take a second: not between the first counts and the reading of memory.
            with self._roster.lock:
                for each in self._roster.traced():
                    each.snapshot()

    def ending(self, stack: int) -> Ending:
        """How a stack ended: what `symbolize` gives knows it."""
        del stack
        return Ending.UNKNOWN

    def python(self, stack: int) -> PythonStack | None:
        """The Python functions of a stack: they are in what `symbolize` gives."""
        del stack
        return None

    def unwound(self) -> Unwound:
        """What the programs of those that run have unwound so far."""
        with self._roster.lock:
            each = [traced.tracer.unwound() for traced in self._roster.traced()]
        return Unwound(*(sum(values) for values in zip((0,) * len(fields(Unwound)), *map(astuple, each), strict=True)))

    def symbolize(
        self, addresses: Sequence[int], ending: Ending = Ending.UNKNOWN, python: PythonStack | None = None
    ) -> SymbolizedStack:
        """The stack that `frames` gave."""
        del ending, python
        return self._roster.names.stack(addresses[0])

    def symbolize_fault(self, stack: FaultStack) -> SymbolizedStack:
        """The stack of a page fault of the main process: empty when that has ended."""
        main = self._roster.main()
        return main.symbolizer.symbolize_fault(stack) if main else SymbolizedStack((), broken=True, depth=0)

    def lost_names(self) -> dict[str, str]:
        """The files whose names are missing, or their lines, and why."""
        with self._roster.lock:
            found = dict(self._roster.ended.lost_names)
            for each in self._roster.traced():
                found |= each.symbolizer.lost_names()
            return found

    def close(self) -> None:
        """Detach every probe."""
        self._roster.close()


class GroupProcess:
    """The processes of a group as one: it lives while one of them does.

    Resident memory is the main process's, and what the others have grown by since they were seen. What ended workers
    had grown by stays in it, as what they held stays outstanding.

    ``proc`` is a folder that holds no process.
    """

    def __init__(self, main: Process, roster: Roster) -> None:
        self._roster = roster
        self.pid, self.command, self.proc = main.pid, main.command, main.proc / "group"

    def program(self) -> tuple[str, ...]:
        """Empty when all have ended. That one of them becomes another program does not end the group's window."""
        return ("group",) if self.alive() else ()

    def alive(self) -> bool:
        """True while one of them runs."""
        return self._roster.alive()

    def resident(self) -> Resident:
        """Resident memory, see above.

        Raises:
            LabError: all of them have ended.
        """
        if not self.alive():
            raise LabError(f"pid {self.pid} and its group have ended", "start it again, and trace it while it runs")
        return self._roster.resident()

    def begin(self) -> Memory | None:
        """What the memory of all is made of at the start of a window; None where it cannot be read.

        Raises:
            TooManyMappingsError: they have more mappings than are read.
        """
        with self._roster.lock:
            return self._roster.footprints.begin(self._roster.present(), self._roster.ended.snapshot)

    def end(self) -> Footprints | None:
        """The same at both ends of a window, at its end, as `begin`."""
        with self._roster.lock:
            return self._roster.footprints.end(self._roster.present(), self._roster.ended.snapshot)

    def children(self) -> tuple[int, ...]:
        """Those that are not traced: none but those that the group's notes tell."""
        return ()

    def members(self) -> tuple[int, ...]:
        """The pids of those that run."""
        return tuple(sorted(member.process.pid for member in self._roster.present()))
