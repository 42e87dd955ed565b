"""The learner's path at its prompt: done as a learner would, sealed before, interrupted and resumed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from diagnosis.lab.unprivileged import choose_user
from diagnosis.learn.bench import BUILT
from diagnosis.learn.catalog import SOURCE, CatalogService, apply_patch, copy_source
from diagnosis.learn.scenarios import CATALOG_CACHE
from diagnosis.learn.state import FILE, State, write_state
from diagnosis.learn.tasks import FINDING, TASKS
from tests.support.terminal import without_spaces
from tests.support.waiting import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMLEAK_LAB = Path(sys.executable).with_name("memleak-lab")
ANSWERS = ("catalog_cache_insert", "catalog_cache_refresh", "catalog_cache.c:82", "rwlock")
NAME = [task.name for task in TASKS].index("name")
AT_A_PROMPT = ("learn", "--any-port", "--speed", "60", "--lang", "en")


def learn(*arguments: str, lines: Sequence[str] = (), environ: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit status, and what was printed."""
    done = subprocess.run(
        [MEMLEAK_LAB, *arguments],
        input="".join(f"{line}\n" for line in lines),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
        env={**os.environ, **(environ or {})},
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """All that a learner can say, up to the task of the name, without an answer: the folder, and what was printed."""
    folder = tmp_path_factory.mktemp("sealed")
    words = ["hint", "hint", "hint", "check", "check malloc", "explain", "fix", "rebuild", "tasks", "help", "skip"]
    lines = words * NAME + ["hint", "hint", "hint", "check", "check a b c.c:1", "explain", "fix", "rebuild"]
    status, out = learn(*AT_A_PROMPT, "--folder", str(folder), lines=lines)
    assert status == 0, out
    return folder, out


@pytest.mark.ebpf
def test_nothing_gives_the_answer_away_before_it_is_revealed(sealed: tuple[Path, str]) -> None:
    folder, out = sealed
    assert f"{NAME + 1}/{len(TASKS)}" in out
    files = "".join(path.read_text() for path in folder.iterdir())
    assert [answer for answer in ANSWERS if answer in out + files] == []

    status, opened = learn("learn", "--resume", "--any-port", "--folder", str(folder), lines=["reveal"])
    assert status == 0, opened
    assert re.search(r"catalog_cache_insert, called from catalog_cache_refresh, at\s+catalog_cache.c:82", opened)


@pytest.mark.ebpf
def test_to_quit_can_be_said_in_capitals(tmp_path: Path) -> None:
    status, out = learn(*AT_A_PROMPT, "--folder", str(tmp_path), lines=["QUIT", "tasks"])
    assert (status, "learn> QUIT\nThe service stops." in out) == (0, True), out


@pytest.mark.ebpf
def test_a_closed_standard_input_is_one_at_its_end(tmp_path: Path) -> None:
    line = shlex.join([str(MEMLEAK_LAB), *AT_A_PROMPT, "--folder", str(tmp_path)])
    done = subprocess.run(["sh", "-c", f"{line} <&-"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "The service stops." in done.stdout


@pytest.mark.ebpf
def test_every_line_of_the_page_fits_a_terminal_of_80_columns(sealed: tuple[Path, str]) -> None:
    """But for commands, which are pasted."""
    _, out = sealed
    assert [line for line in out.splitlines() if len(line) > 80 and not line.startswith("    ")] == []


@pytest.mark.ebpf
def test_a_path_that_was_interrupted_goes_on_where_it_was_left(tmp_path: Path) -> None:
    with subprocess.Popen(
        [MEMLEAK_LAB, *AT_A_PROMPT, "--folder", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("hint\nskip\nskip\n")
        process.stdin.flush()
        wait_until(lambda: state(tmp_path).get("current") == 2, "two tasks were skipped")
        os.killpg(process.pid, signal.SIGINT)
        out = process.stdout.read()
        assert process.wait(LIMIT_SECONDS) == 130, out
    assert "interrupted: everything it started is gone" in out
    assert f"learn --resume --folder {tmp_path}" in out
    pid = state(tmp_path)["pids"][-1]
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the service is gone")

    status, out = learn("learn", "--any-port", "--folder", str(tmp_path))
    assert status == 2
    assert f"memleak-lab learn --resume --folder {tmp_path}" in out

    status, out = learn("learn", "--resume", "--any-port", "--lang", "en", "--folder", str(tmp_path), lines=["tasks"])
    assert status == 0, out
    assert "[>] 3. Find who grows" in out
    assert state(tmp_path)["hints"] == {"claims": 1}


def state(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / FILE).read_text()))
    except FileNotFoundError:
        return {}


@pytest.mark.ebpf
def test_a_source_that_does_not_compile_any_more_does_not_keep_from_going_on(tmp_path: Path) -> None:
    """GIVEN a fix that was built, and an edit after it WHEN the path is resumed THEN what was built runs."""
    apply_patch(copy_source(tmp_path))
    (tmp_path / SOURCE.name).rename(tmp_path / BUILT)
    (tmp_path / SOURCE.name).write_text("not C\n")
    write_state(tmp_path, State(CATALOG_CACHE, 60.0, len(TASKS) - 1, pids=[1], fixed_from=1))
    going_on = ("learn", "--resume", "--any-port", "--lang", "en", "--folder", str(tmp_path))
    status, out = learn(*going_on, lines=["check", "rebuild"])
    assert status == 0, out
    assert "The service does not run what is in your file" in out
    assert "catalog_cache.c does not compile" in out


@pytest.mark.ebpf
@pytest.mark.parametrize(
    ("options", "fix"),
    [
        (AT_A_PROMPT, [task.name for task in TASKS].index("fix")),
        (("learn", "--scenario", "error-path", "--lang", "en"), 2),
    ],
    ids=["the catalog", "a scenario"],
)
def test_a_fix_without_a_trace_before_it_can_be_taken_back(tmp_path: Path, options: tuple[str, ...], fix: int) -> None:
    """GIVEN all tasks up to the fix skipped THEN what is missing is said before the fix, and after it a way back."""
    lines = ["unfix", *["skip"] * fix, "fix", "check", "next", "check", "unfix", "check"]
    status, out = learn(*options, "--folder", str(tmp_path), lines=lines)
    said = " ".join(out.split())
    assert status == 0, out
    assert "There is nothing to fix before you know where" in said
    for missing in (
        f"There is no {tmp_path}/before.json yet, and without it the fix cannot be proven.",
        f"There is no whole report of the service before your fix in {tmp_path}/before.json",
    ):
        assert without_spaces(missing) in without_spaces(out)
    assert re.search(rf"^    .* trace --pid \d+ .* --save {tmp_path}/before.json$", out, re.MULTILINE)
    kept = state(tmp_path)
    assert (len(kept["pids"]), kept["fixed_from"]) == (3, None)
    assert f"The service runs without your fix again: pid {kept['pids'][-1]}." in said
    assert "The service does not run what is in your file" in said


@pytest.mark.ebpf
def test_a_service_that_runs_already_is_found_out_and_left_as_it_is(tmp_path: Path) -> None:
    """GIVEN the service of another command THEN the tasks up to the fix are done on it, and it runs on."""
    with CatalogService(60.0, choose_user(os.environ, os.geteuid())) as service:
        at = ("--http", service.at.http, "--metrics", service.at.metrics, "--ledger", service.at.ledger)
        status, out = learn(
            "learn", "--solve", "--pid", str(service.pid), *at, "--folder", str(tmp_path), "--lang", "en"
        )
        assert status == 0, out
        assert f"SOLVED: {len(FINDING)} tasks" in out
        assert not service.ended()
    assert state(tmp_path)["pids"] == [service.pid]


@pytest.mark.ebpf
def test_a_path_on_a_service_that_runs_already_goes_on_with_that_one_only(tmp_path: Path) -> None:
    with CatalogService(60.0, choose_user(os.environ, os.geteuid()), visitors=False) as service:
        at = ("--http", service.at.http, "--metrics", service.at.metrics, "--ledger", service.at.ledger)
        named = ("--pid", str(service.pid), *at)
        again = ("learn", "--resume", "--folder", str(tmp_path))
        status, out = learn("learn", *named, "--folder", str(tmp_path), "--lang", "en", lines=["skip", "quit"])
        assert status == 0, out
        assert "The service runs on." in out
        assert f"memleak-lab {' '.join((*again, *named))}\n" in out

        status, out = learn(*again, "--any-port")
        assert (status, "was begun on a service that ran already: name it again: --pid" in out) == (2, True), out

        status, out = learn(*again, *named, "--lang", "en", lines=["tasks"])
        assert (status, "[>] 2." in out) == (0, True), out

        write_state(tmp_path, State(CATALOG_CACHE, 60.0, len(TASKS) - 1, pids=[1], fixed_from=1))
        status, out = learn(*again, *named)
        assert (status, "was begun on a service that learn starts: leave --pid" in out) == (2, True), out


@pytest.mark.ebpf
@pytest.mark.parametrize(
    ("kept", "named", "error"),
    [
        ("error-path", "warm-cache", "was begun with --scenario error-path, not warm-cache: leave --scenario out"),
        ("random:7:0", "warm-cache", "was begun with --scenario random, not warm-cache"),
        ("", "warm-cache", "nothing was begun in {folder}: memleak-lab learn --scenario warm-cache --folder {folder}"),
    ],
)
def test_to_go_on_with_another_scenario_than_was_begun_is_an_error(
    tmp_path: Path, kept: str, named: str, error: str
) -> None:
    if kept:
        write_state(tmp_path, State(kept, 1.0))
    status, out = learn("learn", "--resume", "--scenario", named, "--folder", str(tmp_path))
    assert status == 2
    assert error.format(folder=tmp_path) in out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("--pid 1 --pod a/b", "--pid and --pod are 2 targets, and there can be one: keep one of them"),
        ("--pid 1 --speed 5", "--speed does nothing with --pid: leave --speed out, or --pid"),
        ("--pid 1 --scenario random", "--scenario does nothing with --pid: leave --scenario out, or --pid"),
        ("--pid 1 --any-port", "--any-port does nothing with --pid"),
        ("--http 127.0.0.1:8080", "--http does nothing without --pid, --container or --pod: name the service by one"),
        ("--ledger http://127.0.0.1:1/", "--ledger does nothing without --pid, --container or --pod: name"),
        ("--seed 7", "--seed does nothing without --scenario random: add --scenario random"),
        ("--difficulty 1 --scenario warm-cache", "--difficulty does nothing without --scenario random: it draws a"),
        ("--resume --speed 5", "--resume goes on as it was begun: leave --new, --solve, --speed, --seed and"),
        ("--resume --scenario random --seed 5", "--resume goes on as it was begun: leave --new"),
        ("--resume --scenario nosuch", "--scenario is 'nosuch': there are catalog-cache, "),
        ("--speed 5000", "--speed is 5000: it must be from 0.1 to 1000: try --speed 10"),
        ("--lang fr", "--lang is 'fr': there are en and ko: try --lang en"),
    ],
)
def test_options_that_cannot_be_are_errors_with_their_remedy(arguments: str, error: str) -> None:
    status, out = learn("learn", *arguments.split())
    assert status == 2
    assert out.startswith(f"memleak-lab: {error}")
    assert out.count("\n") == 1
