"""What the processes of a group hold at both ends of a window, beside what their traces had counted by then.

The account of memory is made process by process: what an allocator holds freed in one is no use to another. Together
they are what the machine has of them. A process that started within the window counts from when its probes were in;
of one that ended nothing is left to read, and what it had to itself when the window began has gone with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.target.common_memory import SmapsBudget, add_up, read_share
from diagnosis.target.memory import TooManyMappingsError
from diagnosis.trace.named import merge_snapshots
from diagnosis.trace.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from diagnosis.target.common_memory import Share
    from diagnosis.target.memory import Memory
    from diagnosis.trace.member import Member

NOTHING = Snapshot(0.0, {})


@dataclass(frozen=True)
class Moment:
    """What a process held, and what its trace had counted."""

    share: Share
    counted: Snapshot


@dataclass(frozen=True)
class Stay:
    """A process that is there at the end of a window: since its start, or ``fresh``, since its probes were in."""

    pid: int
    start: Moment
    end: Moment
    fresh: bool


@dataclass(frozen=True)
class Gone:
    """Processes that were there in a window and have ended, or run another program.

    ``own`` is what they had to themselves when it began, ``counted`` what their traces had counted then and in the end.
    """

    processes: int
    own: int
    counted: tuple[Snapshot, Snapshot]


@dataclass(frozen=True)
class Footprints:
    """Memory of a group at both ends of a window, and what of its growth is whose."""

    start: Memory
    end: Memory
    stays: tuple[Stay, ...]
    gone: Gone


class FootprintReader:
    """Reads them. `joined` and `left` are called by whoever attaches and detaches."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._start: Memory | None = None
        self._ended = NOTHING
        self._gone: list[Moment] = []
        self._left = 0

    def begin(self, members: Sequence[Member], ended: Snapshot) -> Memory | None:
        """Read all at the window's start; None where one of them cannot be read.

        Args:
            members: those that run, or have ended and are not yet among ``ended``.
            ended: what those had counted that have ended.

        Raises:
            TooManyMappingsError: they have more mappings than are read.
        """
        found = _read(members)
        if not found:
            return None
        with self._lock:
            for member, moment in found.items():
                member.first, member.fresh = moment, False
            self._gone, self._left = [], 0
            self._ended = _with_leaving(ended, members)
            self._start = add_up([moment.share for moment in found.values()])
            return self._start

    def end(self, members: Sequence[Member], ended: Snapshot) -> Footprints | None:
        """Read all at the window's end, as at its start; None where one of them could not be read at one of its ends.

        Args:
            members: those that run, or have ended and are not yet among ``ended``.
            ended: what those had counted that have ended.

        Raises:
            TooManyMappingsError: they have more mappings than are read.
        """
        found = _read(members)
        with self._lock:
            if self._start is None or not found:
                return None
            leaving = [member for member in members if member not in found]
            gone = [*self._gone, *(each.first for each in leaving if each.first and not each.fresh)]
            before = merge_snapshots(0.0, (self._ended, *(each.counted for each in gone)))
            return Footprints(
                self._start,
                add_up([moment.share for moment in found.values()]),
                tuple(
                    Stay(member.process.pid, member.first or moment, moment, member.fresh)
                    for member, moment in found.items()
                ),
                Gone(
                    self._left + len(leaving),
                    sum(each.share.own for each in gone),
                    (before, _with_leaving(ended, leaving)),
                ),
            )

    def joined(self, member: Member) -> None:
        """Read one that came, once its probes are in. One that comes before the window is read with all others."""
        if self._start is None:
            return
        try:
            found = _read((member,), lambda _: NOTHING)
        except TooManyMappingsError:  # said at the window's end, if it is still there
            found = None
        with self._lock:
            member.first = member.first or (found or {}).get(member)

    def left(self, member: Member) -> None:
        """One of them has ended, or has become another program: what it had counted is among what ``ended`` has."""
        with self._lock:
            self._left += 1
            if member.first and not member.fresh:
                self._gone.append(member.first)


def _counted(member: Member) -> Snapshot:
    return member.traced.snapshot() if member.traced else NOTHING


def _with_leaving(ended: Snapshot, members: Iterable[Member]) -> Snapshot:
    """With what those had counted that have ended and are not yet among the ended ones."""
    return merge_snapshots(0.0, (ended, *(_counted(each) for each in members if not each.process.program())))


def _read(members: Iterable[Member], counted: Callable[[Member], Snapshot] = _counted) -> dict[Member, Moment] | None:
    """Those of the members that run; None where one runs and cannot be read.

    What takes long comes last: until then the others go on.
    """
    read, budget = [], SmapsBudget()
    for member in members:
        process = member.process
        try:
            read.append((member, read_share(process.pid, process.thread, budget=budget), counted(member)))
        except TooManyMappingsError:
            raise
        except (LabError, OSError):
            if process.program():  # one on its way to its end has no memory any more
                return None
    return {member: Moment(share(), snapshot) for member, share, snapshot in read}
