"""Who is in the account of a group: those that were there, those that came, and those that went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from heap_trace import Older

from diagnosis.base.errors import LabError
from diagnosis.target.common_memory import Share
from diagnosis.target.memory import MAX_SMAPS_BYTES, Memory, TooManyMappingsError
from diagnosis.target.process import Resident
from diagnosis.trace import footprints
from diagnosis.trace.counts import Counts
from diagnosis.trace.footprints import NOTHING, FootprintReader
from diagnosis.trace.member import Member
from diagnosis.trace.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from diagnosis.target.common_memory import SmapsBudget


@dataclass
class MadeProcess:
    """Runs while it holds something; ``closed`` says that its memory cannot be read."""

    pid: int
    held: int
    closed: bool = False
    mappings: int = 0

    @property
    def thread(self) -> int:
        return self.pid

    def program(self) -> tuple[str, ...]:
        return ("made",) if self.held else ()


@dataclass
class MadeTraced:
    counted: int

    def snapshot(self) -> Snapshot:
        return Snapshot(0.0, {1: Counts(self.counted, self.counted)}, Older(), ())


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], Member]:
    """A process that holds so many bytes, all of which its trace has counted."""
    known: dict[int, MadeProcess] = {}

    def read(pid: int, _: int, *, budget: SmapsBudget) -> Callable[[], Share]:
        process = known[pid]
        budget.left -= process.mappings
        if budget.left < 0:
            raise TooManyMappingsError("there are more")
        if process.closed or not process.held:
            raise LabError("it cannot be read", "")
        held = process.held
        return lambda: Share(Memory(anonymous=held), held, 0, 0, 0, held, {}, (), {})

    def make(pid: int, held: int) -> Member:
        process: Any = MadeProcess(pid, held)
        known[pid] = process
        traced: Any = MadeTraced(held)
        return Member(process, 0.0, ("made",), Resident(0, 0), Resident(0, 0), traced)

    monkeypatch.setattr(footprints, "read_share", read)
    return make


def change(member: Member, held: int) -> None:
    process: Any = member.process
    traced: Any = member.traced
    process.held = held
    traced.counted = max(held, traced.counted)


def test_those_that_stay_count_from_the_start_and_those_that_come_from_when_their_probes_were_in(
    member: Callable[[int, int], Member],
) -> None:
    reader, server, worker = FootprintReader(), member(7, 100), member(8, 10)
    reader.joined(server)
    assert server.first is None, "there is no window yet"
    assert reader.begin([server], NOTHING) == Memory(anonymous=100)
    reader.joined(worker)
    change(server, 130)
    change(worker, 25)
    found = reader.end([server, worker], NOTHING)
    assert found
    assert (found.start.anonymous, found.end.anonymous) == (100, 155)
    stays = {stay.pid: (stay.start.share.own, stay.end.share.own, stay.fresh) for stay in found.stays}
    assert stays == {7: (100, 130, False), 8: (10, 25, True)}
    assert found.stays[1].start.counted == NOTHING, "what it took before is in what its trace counted"
    assert (found.gone.processes, found.gone.own) == (0, 0)


@pytest.mark.parametrize("told", [True, False])
def test_what_one_had_that_ends_is_known_whether_or_not_it_is_among_the_ended(
    member: Callable[[int, int], Member], told: bool
) -> None:
    reader, server, worker = FootprintReader(), member(7, 100), member(8, 10)
    before = Snapshot(0.0, {1: Counts(5, 5)})
    reader.begin([server, worker], before)
    change(worker, 40)
    last = Snapshot(0.0, {1: Counts(45, 45)}) if told else before
    change(worker, 0)
    if told:
        reader.left(worker)
    found = reader.end([server] if told else [server, worker], last)
    assert found
    assert [stay.pid for stay in found.stays] == [7]
    assert (found.gone.processes, found.gone.own) == (1, 10)
    first, then = found.gone.counted
    assert then.since(first)[1].outstanding_bytes == 30


def test_one_that_comes_and_goes_took_nothing_along_that_was_there(member: Callable[[int, int], Member]) -> None:
    reader, server, worker = FootprintReader(), member(7, 100), member(8, 10)
    reader.begin([server], NOTHING)
    reader.joined(worker)
    reader.left(worker)
    found = reader.end([server], Snapshot(0.0, {1: Counts(10, 10)}))
    assert found
    assert (found.gone.processes, found.gone.own) == (1, 0)
    first, last = found.gone.counted
    assert last.since(first)[1].outstanding_bytes == 10


@pytest.mark.parametrize("at_the_start", [True, False])
def test_without_one_that_runs_and_cannot_be_read_there_is_no_account(
    member: Callable[[int, int], Member], at_the_start: bool
) -> None:
    reader, server, worker = FootprintReader(), member(7, 100), member(8, 10)
    process: Any = worker.process
    process.closed = at_the_start
    assert bool(reader.begin([server, worker], NOTHING)) is not at_the_start
    process.closed = not at_the_start
    assert reader.end([server, worker], NOTHING) is None


def test_processes_share_the_room_that_there_is_for_their_mappings(member: Callable[[int, int], Member]) -> None:
    """Of each alone there could be as many: of 64 there would be gigabytes."""
    reader, many = FootprintReader(), [member(7, 100), member(8, 10)]
    reader.begin(many, NOTHING)
    for each in many:
        process: Any = each.process
        process.mappings = MAX_SMAPS_BYTES * 2 // 3
    assert reader.end(many[:1], NOTHING)
    with pytest.raises(TooManyMappingsError):
        reader.end(many, NOTHING)
    newcomer = member(9, 10)
    process = newcomer.process
    process.mappings = MAX_SMAPS_BYTES + 1
    reader.joined(newcomer)
    assert newcomer.first is None
