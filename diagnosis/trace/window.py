"""Takes one window of measurements of a traced process."""

from __future__ import annotations

import contextlib
import enum
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.target.memory import TooManyMappingsError, read_memory
from diagnosis.target.process import Process
from diagnosis.target.sharing import share_memory
from diagnosis.trace.group import GroupProcess
from diagnosis.trace.snapshot import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from heap_trace import Lost

    from diagnosis.target.memory import Memory
    from diagnosis.target.process import Resident
    from diagnosis.trace.footprints import Footprints
    from diagnosis.trace.mapped import MappedRange
    from diagnosis.trace.measured import Measured, MeasuredProcess, Names
    from diagnosis.trace.snapshot import Snapshot, Survivors

# What each try of the last sample may take, where it waits for a moment of its own choice: a ledger's longest answer.
ALIGNED_SECONDS = 5.0

# A window without an end is sampled this often at first, in seconds, and half as often whenever it has twice as many
# samples as it needs: memory stays the same however long it takes.
OPEN_INTERVAL_SECONDS = 0.1

# Between two looks at whether the process still runs: in a window of days, samples are hours apart.
LOOK_SECONDS = 1.0


class Ending(enum.Enum):
    """How a window came to its end."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    EXITED = "exited"
    EXECED = "execed"
    DETACHED = "detached"


@dataclass(frozen=True)
class Sample:
    """One look: the counts by stack, and resident memory."""

    snapshot: Snapshot
    resident: Resident


@dataclass(frozen=True)
class Window:
    """The measurements of one window, taken while the probes were in.

    ``memory_start`` and ``memory_end`` are what the process's memory was made of at both ends; None where it ended,
    and where it was not read for the reason in ``unread``.
    ``ranges`` are the mappings that were made within the window and still are. ``footprints`` are those of a group's
    processes: ``memory_start`` and ``memory_end`` are then of all together, and the addresses of each are `apart`.
    """

    samples: tuple[Sample, ...]
    survivors: Mapping[int, Survivors]
    lost: Mapping[Lost, int]
    ending: Ending = Ending.COMPLETE
    children: tuple[int, ...] = ()
    fatal_signal: str = ""
    detached: str = ""
    memory_start: Memory | None = None
    memory_end: Memory | None = None
    ranges: tuple[MappedRange, ...] = ()
    same_processes: bool = True
    footprints: Footprints | None = None
    unread: str = ""

    @property
    def seconds(self) -> float:
        """How long the window was."""
        return self.samples[-1].snapshot.seconds - self.samples[0].snapshot.seconds


@dataclass
class _Sampler:
    """When to take a sample, and which samples to keep."""

    seconds: float | None
    wanted: int
    interval: float

    @classmethod
    def over(cls, seconds: float | None, wanted: int) -> _Sampler:
        return cls(seconds, wanted, seconds / wanted if seconds is not None else OPEN_INTERVAL_SECONDS)

    def thin(self, samples: list[Sample]) -> None:
        """Drop every second sample of a long open window. The first one stays: all else is counted from it."""
        if self.seconds is None and len(samples) > 2 * self.wanted:
            del samples[1::2]
            self.interval *= 2


def _take(take: Callable[[], Sample]) -> Sample:
    """Take a sample at any moment."""
    return take()


def _broken_off(tracer: Measured, program: tuple[str, ...]) -> Ending | None:
    """How the window has come to its end before its time, if it has."""
    now = tracer.process.program()
    if now != program:
        return Ending.EXECED if now else Ending.EXITED  # one on its way to its end still counts as alive
    return Ending.DETACHED if tracer.detached else None


def _wait(until: float, pause: Callable[[float], bool], over: Callable[[], Ending | None]) -> bool:
    """Wait for a time of the monotonic clock, or for the window's end before it; False where `pause` says to stop."""
    while (left := until - time.monotonic()) > LOOK_SECONDS:
        if not pause(LOOK_SECONDS):
            return False
        if over():
            return True
    return pause(max(0.0, left))


class OtherProgramError(LabError):
    """The process became another program (exec) before there was a window of the one that was traced."""


def _other_program(process: MeasuredProcess) -> OtherProgramError:
    return OtherProgramError(
        f"pid {process.pid} became another program at once", "trace it again: it is the new one now"
    )


def _look(tracer: Measured, program: tuple[str, ...]) -> Sample:
    # Memory first: a group names new stacks after it has read its counts, which takes its time at the first look.
    resident = tracer.process.resident()
    sample = Sample(tracer.snapshot(), resident)
    if tracer.process.program() not in (program, ()):
        raise _other_program(tracer.process)  # the sample can be of either
    return sample


def _has_its_turn(tracer: Measured) -> None:
    tracer.set_deadline(time.monotonic() + ALIGNED_SECONDS)


def _last_look(tracer: Measured, look: Callable[[], Sample]) -> Sample:
    _has_its_turn(tracer)  # at each try anew: what it waits for in between can take long
    return look()


def _sharing(sample: Sample, earlier: Sample) -> Sample:
    return replace(sample, snapshot=sample.snapshot.sharing(earlier.snapshot))


class _Memories:
    """What the process's memory is made of at both ends; None where that cannot be read, or it has ended."""

    def __init__(self, process: MeasuredProcess) -> None:
        self._process = process
        self.start: Memory | None = None
        self.end: Memory | None = None
        self.footprints: Footprints | None = None
        self.unread = ""

    def begin(self) -> None:
        if isinstance(self._process, GroupProcess):
            with self._told():
                self.start = self._process.begin()
        else:
            self.start = self._read()

    def finish(self) -> None:
        if isinstance(self._process, GroupProcess):
            with self._told():
                self.footprints = self._process.end()
                self.end = self.footprints.end if self.footprints else None
        else:
            self.end = self._read()

    def _read(self) -> Memory | None:
        if isinstance(self._process, Process):
            with contextlib.suppress(LabError), self._told():
                return read_memory(self._process.pid, self._process.proc)
        return None

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except TooManyMappingsError as error:
            self.unread = error.what


def measure(
    tracer: Measured,
    symbolizer: Names,
    seconds: float | None,
    *,
    sample_count: int,
    pause: Callable[[float], bool],
    align: Callable[[Callable[[], Sample]], Sample] = _take,
) -> Window:
    """Watch a traced process for a while, or until it ends or becomes another program.

    Args:
        tracer: with its probes in.
        symbolizer: keeps the process's files open, so that its stacks can be named also after its end.
        seconds: how long; None for until `pause` says so.
        sample_count: how many samples a window gets; one without an end keeps at most twice as many.
        pause: waits for a number of seconds, and says whether to go on.
        align: takes the samples at both ends of the window, each at a moment of its own choice.

    Raises:
        OtherProgramError: it became another program before it was looked at twice.
        LabError: the process ended before it was looked at once, or `align` failed.
    """
    process = tracer.process
    program = process.program()
    look, over = partial(_look, tracer, program), partial(_broken_off, tracer, program)
    symbolizer.refresh()
    members = process.members()
    first = align(look)
    memories = _Memories(process)
    memories.begin()
    samples, sampler, ending = [first], _Sampler.over(seconds, sample_count), Ending.COMPLETE
    children: tuple[int, ...] = ()
    end = None if seconds is None else first.snapshot.seconds + seconds
    if end is not None:
        tracer.set_deadline(end)
    while True:
        due = samples[-1].snapshot.seconds + sampler.interval
        going_on = _wait(min(due, end or due), pause, over)
        if broken_off := over():
            ending = broken_off
            if ending is not Ending.EXECED:  # the maps in the kernel outlive it, its resident memory does not
                samples.append(Sample(tracer.snapshot(), samples[-1].resident))
            break
        symbolizer.refresh()
        children = tuple(pid for pid in process.children() if not share_memory(process.pid, pid))
        last = not going_on or (end is not None and time.monotonic() >= end)
        try:
            if last:
                ending = Ending.COMPLETE if going_on else Ending.STOPPED
                _has_its_turn(tracer)
                samples.append(align(partial(_last_look, tracer, look)))
                memories.finish()
                break
            samples.append(_sharing(look(), samples[-1]))
        except LabError:
            if process.program() == program:
                raise
            continue  # it has ended or become another program just now: seen at the next turn
        sampler.thin(samples)
    # Reading the survivors may take a slow machine past the deadline: what was counted by then is whole all the same.
    detached = tracer.detached
    survivors, lost = tracer.survivors(first.snapshot), tracer.lost()
    tracer.detach()  # naming what was found takes a while, and the process need not wait for it
    if len(samples) < 2:
        raise _other_program(process)
    return Window(
        samples=tuple(samples),
        survivors=survivors,
        lost=lost,
        ending=ending,
        children=children,
        fatal_signal=tracer.fatal_signal(),
        detached=detached,
        memory_start=memories.start,
        memory_end=memories.end,
        footprints=memories.footprints,
        unread=memories.unread,
        ranges=tuple(each for each in tracer.ranges() if each.time_ns >= first.snapshot.seconds * NANOSECONDS),
        same_processes=process.members() == members,
    )
