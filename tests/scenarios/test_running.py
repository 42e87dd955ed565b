"""A running scenario: who it runs as, what of it can be seen, what its ledger says, and how it ends."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.lab.unprivileged import choose_user
from diagnosis.learn.scenarios import SCENARIOS, copy_sources, read_sources, start
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from diagnosis.learn.scenarios import Ledger, Running, Scenario

OWN = [pytest.param(scenario, id=scenario.name) for scenario in SCENARIOS.values() if scenario.source]


def visible(pid: int) -> str:
    """What a learner sees of a process: its name, its arguments, its environment, the names in its folder."""
    process = Path(f"/proc/{pid}")
    folder = (process / "cwd").readlink()
    names = " ".join(path.name for path in folder.iterdir())
    parts = [(process / name).read_bytes().decode() for name in ("comm", "cmdline", "environ")]
    return "\n".join([*parts, folder.name, names])


@pytest.mark.parametrize("scenario", OWN)
def test_what_can_be_seen_of_it_does_not_tell(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> None:
    with start(scenario, tmp_path_factory.mktemp("run"), pods=2) as running:
        seen = visible(running.pid)
        # The project's own path is in the environment, whatever the scenario.
        seen = seen.replace(str(Path(__file__).parents[2]), "")
        telling = {scenario.function, scenario.caller, scenario.answer, *scenario.name.split("-"), "leak"} - {""}
        assert not [word for word in telling if re.search(rf"\b{word}\b", seen)], seen
        assert {visible(pid).count("state-") for pid in running.pids} == {len(running.pids) + 1}


@pytest.mark.root
def test_it_runs_as_the_unprivileged_user_in_a_closed_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    umask = os.umask(0o077)
    try:
        with start(SCENARIOS["error-path"], tmp_path / "run") as running:
            status = Path(f"/proc/{running.pid}/status").read_text()
    finally:
        os.umask(umask)
    user = choose_user(os.environ, os.geteuid())
    assert re.search(r"^Uid:\t(\d+)", status, re.MULTILINE)[1] == str(user.uid)  # type: ignore[index]
    assert user.uid != 0


def after(running: Running, rounds: int) -> Ledger:
    """The ledger when so many more rounds of work are done."""
    first = running.ledger().rounds
    wait_until(lambda: running.ledger().rounds >= first + rounds, f"{rounds} rounds of work")
    return running.ledger()


def test_the_ledger_goes_on_and_adds_up(tmp_path: Path) -> None:
    with start(SCENARIOS["error-path"], tmp_path / "run", 2.0) as running:
        first = running.ledger()
        last = after(running, 10)
        reading = running.reading()
    assert last.leaked > first.leaked
    block = last.leaked // last.blocks
    assert last.leaked == last.held == last.blocks * block
    assert reading.insert_bytes == reading.inserts * block >= last.leaked
    intervals = last.idle_intervals
    assert [each.insert_bytes for each in intervals] == sorted(each.insert_bytes for each in intervals)
    assert all(each.since_ns < each.until_ns for each in intervals)
    assert all(one.until_ns <= other.since_ns for one, other in pairwise(intervals))


def test_a_cache_settles_when_it_is_full(tmp_path: Path) -> None:
    with start(SCENARIOS["warm-cache"], tmp_path / "slow", 0.1) as filling:
        assert not filling.ledger().settled
    with start(SCENARIOS["warm-cache"], tmp_path / "run", 4.0) as running:
        running.settle()
        full = running.ledger()
        later = after(running, 3)
    assert full.settled
    assert full.held == later.held
    assert full.leaked == later.leaked == 0


def test_the_seed_says_which_of_several_leaks(tmp_path: Path) -> None:
    positions = set()
    for seed in range(4):
        with start(SCENARIOS["ten-pods"], tmp_path / f"run-{seed}", pods=2, seed=seed) as running:
            positions.add(running.pids.index(running.pid))
            assert after(running, 1).leaked > 0
    assert positions == {0, 1}


def test_a_fix_that_frees_too_much_ends_the_service_and_its_words_are_said(tmp_path: Path) -> None:
    scenario = SCENARIOS["error-path"]
    source = copy_sources(scenario, tmp_path / "sources")
    once = "	order_free(order);\n	return 0;"
    text = source.read_text()
    assert once in text
    source.write_text(text.replace(once, f"	order_free(order);\n{once}"))
    with (
        pytest.raises(LabError, match=r"the service, pid \d+, ended: -6: .*double free"),
        start(scenario, tmp_path / "run", sources=read_sources(scenario, source.parent)) as running,
    ):
        after(running, 1000)


def test_nothing_runs_after_the_end(tmp_path: Path) -> None:
    with start(SCENARIOS["ten-pods"], tmp_path / "run", pods=3) as running:
        pids = running.pids
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    running.stop()


def test_a_speed_is_above_0(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="speed 0 is not above 0"):
        start(SCENARIOS["error-path"], tmp_path / "run", 0)
