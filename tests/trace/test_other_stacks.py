"""Signal handlers on alternate stacks in the middle of an allocator call: the process lives, and losses are said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from diagnosis.target.members import family_of
from diagnosis.target.process import Process
from diagnosis.trace.group import Group
from diagnosis.trace.tracer import Tracer, Tracing
from tests.support.waiting import wait_until
from tests.trace.tracing import Row, Target, count

if TYPE_CHECKING:
    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing

pytestmark = [pytest.mark.ebpf, pytest.mark.alone]

TIMES = 100
INTERRUPTED = {"interrupted_takes": Row(TIMES, 0, TIMES * 300), "uninterrupted_takes": Row(TIMES, 0, TIMES * 70)}


def test_on_a_stack_below_everything_is_counted(build: Build, closing: Closing, allow_session: bool) -> None:
    with (
        Target([build("altstack.c", name="below"), "below"]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        assert target.go() == "done"
        counted = count(tracer)
    assert {name: row for name, row in counted.own.items() if name != "main"} == INTERRUPTED | {
        "handler_keeps": Row(TIMES, 0, TIMES * 4096),
        "handler_unmaps": Row(TIMES, TIMES, 0),
    }
    assert counted.lost == {}


def test_on_a_stack_above_a_session_asks_for_no_return_and_says_what_is_missing(build: Build, closing: Closing) -> None:
    """The kernel would drop the pending return, and SIGILL would end the process at it."""
    with Target([build("altstack.c", name="above"), "above"]) as target, closing.tracing(target) as tracer:
        if not tracer._trace.uses_session:
            pytest.skip("this kernel has no uprobe sessions")
        assert target.go() == "done"
        counted = count(tracer)
        assert tracer.fatal_signal() == ""
    assert {name: row for name, row in counted.own.items() if name != "main"} == INTERRUPTED
    assert counted.lost == {"DECLINED": 2 * TIMES}  # the two mappings of each handler


def test_where_returns_cannot_be_declined_it_is_said_before_and_the_signal_is_named_after(build: Build) -> None:
    said: list[str] = []
    with Target([build("altstack.c", name="killed"), "above"]) as target:
        process = Process(target.pid)
        with Tracer(process, Tracing(allow_session=False), said.append) as tracer:
            target.start()
            wait_until(lambda: not process.alive(), "the process ends")
            assert tracer.fatal_signal() == "SIGILL"
    assert len(said) == 1
    assert "SIGSEGV" in said[0]
    assert "trace --light" in said[0]


def test_a_process_without_handlers_is_traced_without_a_word(build: Build, closing: Closing) -> None:
    said: list[str] = []
    with (
        Target([build("older.c")]) as target,
        closing.later(Tracer(Process(target.pid), Tracing(allow_session=False), said.append)),
    ):
        assert said == []


def test_that_sessions_in_several_processes_cannot_decline_is_said_before(build: Build) -> None:
    """The kernel asks all sessions in a file that the processes share."""
    said: list[str] = []
    with Target([build("altstack.c", name="group"), "above"]) as target:
        process = Process(target.pid)
        with Group(process, family_of(process), warn=said.append):
            pass
    (line,) = said
    assert "SIGSEGV" in line
    assert "sigaltstack" in line


def test_that_a_session_beside_another_trace_cannot_decline_is_said_before(build: Build, closing: Closing) -> None:
    """The other trace's session is asked at the same probes, whatever process it is for."""
    said: list[str] = []
    with (
        Target([build("older.c")]) as other,
        closing.tracing(other) as first,
        Target([build("altstack.c", name="beside"), "above"]) as target,
        Tracer(Process(target.pid), Tracing(), said.append),
    ):
        if not first._trace.uses_session:
            pytest.skip("this kernel has no uprobe sessions")
    (line,) = said
    assert line.startswith("Another trace is going on")
    assert "SIGSEGV" in line
