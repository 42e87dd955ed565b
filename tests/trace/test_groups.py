"""Several processes traced as one: workers that were there, that come, that end, and that become another program."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.members import family_of
from diagnosis.target.process import Process
from diagnosis.trace import roster
from diagnosis.trace.group import Group
from diagnosis.trace.tracer import Tracing
from tests.support.programs import answer, running
from tests.support.waiting import wait_until
from tests.trace.tracing import Row

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.trace.conftest import Build

pytestmark = pytest.mark.ebpf

WORK = {"handle_request": Row(10, 0, 30_000), "answer_request": Row(5, 5, 0)}


def times(number: int, taken: dict[str, Row]) -> dict[str, Row]:
    return {name: Row(*(number * each for each in row)) for name, row in taken.items()}


class Server:
    """The program workers.c, and its group."""

    def __init__(self, program: subprocess.Popen[str], allow_session: bool) -> None:
        self._program, self._allow_session = program, allow_session
        self.process = Process(program.pid)

    def tell(self, order: str) -> int:
        """Let it follow an order; returns the youngest worker's pid."""
        return int(answer(self._program, order))

    def group(self) -> Group:
        return Group(self.process, family_of(self.process), Tracing(allow_session=self._allow_session))


@pytest.fixture
def server(build: Build, allow_session: bool) -> Iterator[Server]:
    with running(build("workers.c")) as program:
        assert answer(program) == "ready"
        try:
            yield Server(program, allow_session)
        finally:
            for pid in Process(program.pid).descendants():
                os.kill(pid, signal.SIGKILL)


def rows(group: Group) -> dict[str, Row]:
    """What each function of the program did, over all processes."""
    found = {}
    for stack, counts in group.snapshot().counts.items():
        frames = group.symbolize(group.frames(stack)).frames
        if frames and frames[0].module == "workers":
            found[frames[0].name] = Row(counts.allocations, counts.frees, counts.outstanding_bytes)
    return found


@contextmanager
def traced(server: Server) -> Iterator[Group]:
    with server.group() as group:
        yield group
        assert not any(group.lost().values())


def test_workers_that_are_there_are_one_with_their_server(server: Server) -> None:
    server.tell("f")
    server.tell("f")
    with traced(server) as group:
        server.tell("w")
        server.tell("m")
        assert rows(group) == {**WORK, "master_takes": Row(1, 0, 700)}
        assert group.notes == ("The numbers are of 3 processes together.",)
        assert [survivors.blocks for survivors in group.survivors(group.snapshot()).values()] == []


def test_a_worker_that_starts_later_is_attached(server: Server) -> None:
    with traced(server) as group:
        first = group.snapshot()
        server.tell("f")
        wait_until(lambda: "2 processes" in group.notes[0] if group.notes else False, "the worker is attached")
        server.tell("w")
        server.tell("w")
        assert rows(group) == times(2, WORK)
        (held,) = group.survivors(first).values()
        assert (held.blocks, held.bytes) == (20, 60_000)
        assert "1 of them started meanwhile: each is counted from" in group.notes[1]


def test_what_a_recycled_worker_held_stays_outstanding(server: Server) -> None:
    """Two workers, one after the other: both are in the numbers, at their names, and in the resident memory."""
    with traced(server) as group:
        first = group.snapshot()
        for number in (1, 2):
            server.tell("f")
            wait_until(lambda: len(group.notes) > 0 and f"{number + 1} processes" in group.notes[0], "attached")  # noqa: B023
            server.tell("w")
            server.tell("e")
            wait_until(lambda: f"{number} of them were workers" in " ".join(group.notes), "the worker has left")  # noqa: B023
        assert rows(group) == times(2, WORK)
        (held,) = group.survivors(first).values()
        assert (held.blocks, held.bytes) == (20, 60_000)
        assert group.process.alive()
        assert group.process.resident().total_bytes >= server.process.resident().total_bytes


def test_a_worker_for_which_no_descriptor_is_free_is_said_and_keeps_no_place(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_free(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with traced(server) as group:
        monkeypatch.setattr(roster, "Tracer", none_free)
        pid = server.tell("f")
        wait_until(lambda: f"pid {pid} is not traced: [Errno 24]" in " ".join(group.notes), "it is said")
        present = group._roster.present
        assert [member.process.pid for member in present() if member.attaching] == []
        server.tell("e")
        wait_until(lambda: [member.process.pid for member in present()] == [server.process.pid], "it has left")


def test_what_a_worker_held_before_an_exec_is_given_back(server: Server) -> None:
    with traced(server) as group:
        server.tell("f")
        wait_until(lambda: "2 processes" in " ".join(group.notes), "attached")
        server.tell("w")
        pid = server.tell("x")
        wait_until(lambda: "1 of them have ended, or run another program now" in " ".join(group.notes), "it has left")
        assert rows(group) == {"handle_request": Row(10, 10, 0), "answer_request": Row(5, 5, 0)}
        wait_until(lambda: "3 processes" in group.notes[0], "what it has become is attached")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "2 of them have ended, or run another program now" in " ".join(group.notes), "it has ended")


def test_the_group_ends_with_the_last_of_its_processes(server: Server) -> None:
    server.tell("f")
    with traced(server) as group:
        assert group.process.program() == group.process.program() != ()
        for pid in server.process.descendants():
            os.kill(pid, signal.SIGKILL)
        os.kill(server.process.pid, signal.SIGKILL)
        wait_until(lambda: group.process.program() == (), "all have ended")
        assert rows(group) == {}


def test_files_without_names_are_those_of_every_process(server: Server) -> None:
    with traced(server) as group:
        assert group.lost_names() == {}
