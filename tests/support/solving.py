"""`learn --solve`, and what it must print: each check fails before its task is done, and passes after."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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

# The exit status, and what was printed.
Solved = tuple[int, str]


def solve(name: str, language: str) -> Solved:
    """Do every task of a scenario."""
    done = subprocess.run(
        [MEMLEAK_LAB, "learn", "--solve", "--scenario", name, "--lang", language],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


@contextmanager
def solving(request: pytest.FixtureRequest, languages: Mapping[str, str]) -> Iterator[Mapping[str, Future[Solved]]]:
    """All scenarios that were selected in this module, each under way or done. A window is mostly waiting."""
    here = [item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path]
    names = [str(item.callspec.params["name"]) for item in here]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {name: pool.submit(solve, name, languages[name]) for name in names}
        pool.shutdown(cancel_futures=True)


def check_solved(name: str, language: str, solved: Solved) -> None:
    """Every task was refused at first, and done."""
    status, out = solved
    assert status == 0, out
    tasks = len(TASKS) if name == CATALOG_CACHE else 4 if SCENARIOS[name].fix else 2
    assert "SOLVED: " in out
    assert out.count(REFUSED[language]) >= tasks
    if tasks > 2:
        assert "No leak found" in out, "the second trace's verdict stands beside the first one's"


def languages_by_turns(first: int) -> dict[str, str]:
    """A language for each scenario, one after the other."""
    return {name: LANGUAGES[number % len(LANGUAGES)] for number, name in enumerate(SCENARIOS, first)}
