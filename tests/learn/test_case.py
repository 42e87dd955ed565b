"""A scenario's service beside a fix of the learner's that compiles and does not start."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from rich.console import Console

from diagnosis.base.errors import LabError
from diagnosis.learn.case import BUILT, CaseBench, check_fix, tasks_of
from diagnosis.learn.messages import Messages
from diagnosis.learn.scenarios import SCENARIOS, copy_sources
from diagnosis.learn.session import Session
from diagnosis.learn.state import FILE, State, read_state

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SCENARIO = SCENARIOS["error-path"]
DIES = "#include <stdlib.h>\n__attribute__((constructor)) static void boom(void) { abort(); }\n"


def opened(folder: Path, state: State) -> CaseBench:
    return CaseBench(SCENARIO, state, folder, "en")


def prompt(bench: CaseBench) -> tuple[Session[CaseBench], io.StringIO]:
    printed = io.StringIO()
    tasks = lambda: tasks_of(SCENARIO, bench.state)  # noqa: E731
    return Session(bench, tasks, Messages("en"), Console(file=printed, width=500)), printed


def edit(path: Path) -> None:
    path.write_text(path.read_text() + DIES)


def test_a_fix_that_dies_at_its_start_leaves_the_earlier_service_as_it_is(tmp_path: Path) -> None:
    with opened(tmp_path, State(SCENARIO.name, 1.0, current=2)) as bench:
        pid = bench.running.pid
        edit(bench.source)
        outcome = check_fix(bench, ())
        assert (outcome.passed, outcome.key) == (False, "compiler")
        assert "ended: -6" in str(outcome.values["error"])
        assert not bench.is_built
        assert bench.running.pid == pid
        os.kill(pid, 0)
        assert not (tmp_path / BUILT).exists()
    kept = read_state(tmp_path, 4)
    assert (kept.pids, kept.fixed_from) == ([pid], None)


def test_a_build_that_does_not_start_any_more_does_not_keep_from_going_on(tmp_path: Path) -> None:
    """GIVEN a built fix that dies now WHEN the path is resumed THEN the service runs as it came, which is said."""
    edit(copy_sources(SCENARIO, tmp_path / BUILT))
    with opened(tmp_path, State(SCENARIO.name, 1.0, current=2, pids=[1], fixed_from=1)) as bench:
        assert (bench.state.fixed_from, bench.is_built) == (None, False)
        session, printed = prompt(bench)
        session.do("tasks")
        session.do("tasks")
    said = printed.getvalue()
    assert said.count("Your last build does not start any more") == 1, said
    assert "ended: -6" in said


def test_an_error_of_any_command_is_a_line_and_the_session_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise LabError("the service does not start", "free some memory")

    with opened(tmp_path, State(SCENARIO.name, 1.0, current=2)) as bench:
        session, printed = prompt(bench)
        for name in ("unfix", "ensure"):
            monkeypatch.setattr(CaseBench, name, fail)
            session.do("unfix")
    assert printed.getvalue().count("the service does not start: free some memory") == 2


def test_how_to_fix_it_is_a_hint_and_no_part_of_the_task(tmp_path: Path) -> None:
    with opened(tmp_path, State(SCENARIO.name, 1.0, current=1, passed=["case_trace", "case_verdict"])) as bench:
        session, printed = prompt(bench)
        how = bench.page.fix
        for line in ("explain", "next", "hint"):
            session.do(line)
        assert how not in printed.getvalue()
        session.do("hint")
        assert printed.getvalue().count(how) == 1
        session.do("hint")
        assert "    fix\n" in printed.getvalue()
        session.do("reveal")
        assert printed.getvalue().count(how) == 2


def test_what_there_is_nothing_to_fix_in_says_at_once_what_to_do(tmp_path: Path) -> None:
    scenario = SCENARIOS["warm-cache"]
    with CaseBench(scenario, State(scenario.name, 1.0), tmp_path, "en") as bench:
        assert str(bench.values()["explanation"]).endswith(bench.page.fix)
    assert (tmp_path / FILE).exists()
