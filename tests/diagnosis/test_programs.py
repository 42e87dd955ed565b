"""Loaded programs that lie ready, made of stand-ins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from diagnosis.trace import programs as module
from diagnosis.trace.programs import MAX_IDLE, Program, Programs
from diagnosis.trace.tracer import Tracing

if TYPE_CHECKING:
    from collections.abc import Iterator


class Trace:
    """One that is not loaded."""

    closed = False

    def close(self) -> None:
        self.closed = True

    def renew(self) -> Trace:
        return self


class EndedProcess:
    def alive(self) -> bool:
        return False


PROCESS: Any = EndedProcess()


def made(python: Any) -> Program:  # noqa: ANN401 - a stand-in
    trace: Any = Trace()
    return Program(trace, None, python)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    """Programs whose loads take nothing."""
    monkeypatch.setattr(module, "load", lambda _, __, python, **___: made(python))
    monkeypatch.setattr(module, "is_traced_elsewhere", lambda: False)
    found = Programs(Tracing(), spares=1)
    yield found
    found.close()


def test_a_program_of_a_process_that_has_ended_serves_one_like_it(programs: Programs) -> None:
    own: Any = "interpreter"
    program = made(own)
    programs.give_back(program, PROCESS)
    assert programs.take(PROCESS, own).trace is program.trace


def test_programs_that_serve_nobody_any_more_make_room_for_others(programs: Programs) -> None:
    """GIVEN as many as may lie ready, all for interpreters that are gone THEN the oldest goes for one that is used."""
    old = [made(f"gone {number}") for number in range(MAX_IDLE)]
    for each in old:
        programs.give_back(each, PROCESS)
    new: Any = "interpreter"

    program = programs.take(PROCESS, new)
    programs.give_back(program, PROCESS)

    closed: list[Any] = [each.trace for each in old]
    assert [trace.closed for trace in closed] == [True] + [False] * (MAX_IDLE - 1)
    assert programs.take(PROCESS, new).trace is program.trace
