"""`learn --solve` does every scenario with the commands of the hints, in both languages: each check fails first.

A window is mostly waiting, so that several are solved at a time.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from diagnosis.learn.messages import LANGUAGES, Messages
from diagnosis.learn.scenarios import CATALOG_CACHE, SCENARIOS
from diagnosis.learn.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

MEMLEAK_LAB = Path(sys.executable).with_name("memleak-lab")
AT_A_TIME = 3
LIMIT_SECONDS = 240
REFUSED = {language: Messages(language)("solve.fails_first") for language in LANGUAGES}
LANGUAGE = {name: LANGUAGES[number % len(LANGUAGES)] for number, name in enumerate(SCENARIOS, 1)}

pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(2 * LIMIT_SECONDS)]


def solve(name: str) -> tuple[int, str]:
    """The exit status, and what was printed."""
    done = subprocess.run(
        [MEMLEAK_LAB, "learn", "--solve", "--scenario", name, "--lang", LANGUAGE[name]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def solved(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[tuple[int, str]]]]:
    """All that were selected, each under way or done."""
    here = [item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path]
    names = [str(item.callspec.params["name"]) for item in here]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {name: pool.submit(solve, name) for name in names}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_is_solved_with_the_commands_of_its_hints(
    solved: Mapping[str, Future[tuple[int, str]]], name: str
) -> None:
    status, out = solved[name].result()
    assert status == 0, out
    scenario = SCENARIOS[name]
    tasks = len(TASKS) if name == CATALOG_CACHE else 4 if scenario.fix else 2
    assert "SOLVED: " in out
    assert out.count(REFUSED[LANGUAGE[name]]) >= tasks
    if tasks > 2:
        assert "No leak found" in out, "the second trace's verdict stands beside the first one's"
