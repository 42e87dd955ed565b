"""Workers that start at any moment and live for a third of a second: each is followed, or counted as missed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.members import family_of
from diagnosis.target.process import Process
from diagnosis.trace.group import Group
from diagnosis.trace.roster import MAX_PROCESSES
from diagnosis.trace.tracer import Tracing
from tests.support.waiting import wait_until
from tests.trace.tracing import Row, Target

if TYPE_CHECKING:
    from tests.trace.conftest import Build

pytestmark = pytest.mark.ebpf

# Of two programs, to detach each takes a tenth of a second.
ENDED_WORKERS = {True: 6, False: 2}


def number(group: Group, pattern: str) -> int:
    """The number in one of the group's notes; 0 where there is no such note."""
    found = re.search(pattern, " ".join(group.notes))
    return int(found[1]) if found else 0


def rows(group: Group) -> dict[str, Row]:
    found = {}
    for stack, counts in group.snapshot().counts.items():
        frames = group.symbolize(group.frames(stack)).frames
        if frames and frames[0].module == "prefork":
            found[frames[0].name] = Row(counts.allocations, counts.frees, counts.outstanding_bytes)
    return found


@pytest.mark.parametrize("room", [MAX_PROCESSES, 2])
def test_every_worker_is_followed_or_counted_as_missed(
    build: Build, allow_session: bool, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diagnosis.trace.roster.MAX_PROCESSES", room)
    with Target([build("prefork.c")]) as target:
        process = Process(target.pid)
        with Group(process, family_of(process), Tracing(allow_session=allow_session)) as group:
            target.start()
            wait_until(
                lambda: number(group, r"(\d+) of them were workers") >= ENDED_WORKERS[allow_session],
                "workers have ended",
            )
            target.start()  # no more of them
            workers, requests = map(int, target.reached().split())
            wait_until(lambda: len(group._roster.present()) == 1, "the last ones have left")
            older = group.snapshot().older
            ended = number(group, r"(\d+) of them were workers")
            missed = number(group, r"(\d+) more ended before")
            assert ended + missed == workers
            ((name, row),) = rows(group).items()
            assert name == "handle_request"
            assert ENDED_WORKERS[allow_session] < row.allocations <= requests
            assert row == Row(row.allocations, 0, 3000 * row.allocations)
            # What a worker frees of its parent's blocks its parent has still: it is nobody's growth.
            assert older is not None
            assert older.frees == 0
            assert not any(found.frees for found in group.older().values())
            assert not any(group.lost().values())
