"""What `memleak-lab trace` is asked for: the probes explained, and input that it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.cli.target import Target
from tests.support.programs import answer, running
from tests.support.terminal import without_spaces
from tests.tool.tracing import trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_explain_needs_no_root_and_traces_nothing() -> None:
    done = trace("--pid", os.getpid(), "--explain")
    assert done.returncode == 0
    assert "malloc+" in done.stdout
    assert "free+" in done.stdout


@pytest.mark.root
def test_explain_shows_the_probes_of_an_allocator_that_the_user_names(keeper: Path) -> None:
    with running(keeper) as process:
        answer(process)
        done = trace("--pid", process.pid, "--explain", "--allocator", "alloc=keep:size=1,free=main:ptr=1")
    assert done.returncode == 0
    assert without_spaces(f"probes of pid {process.pid} in {keeper}") in without_spaces(done.stdout)
    assert "keep+" in done.stdout
    assert "malloc+" in done.stdout


def bad_inputs() -> Iterator[tuple[tuple[str, ...], str]]:
    yield (), "name it by --pid P"
    yield ("--pid", "1", "--pod", "a/b"), "--pid and --pod are 2 targets, and there can be one: keep one of them"
    yield ("--pid", "0"), "pid 0 does not exist"
    yield ("--pid", "4194305"), "pid 4194305 does not exist"
    yield ("--pid", "1", "--duration", "0"), "--duration is 0 s: it must be from 1 to 86400 s"
    yield ("--pid", "1", "--duration", "soon"), "'soon' is no duration"
    yield ("--pid", "1", "--interval", "0.01"), "--interval is 0.01 s: it must be 0.2 s or more"
    yield ("--pid", "1", "--min-size", "much"), "'much' is no size"
    yield ("--pid", "1", "--max-blocks", "0"), "--max-blocks"
    yield ("--pid", "1", "--top", "0"), "--top"
    yield ("--pid", "1", "--format", "xml"), "--format"
    yield ("--pid", "1", "--allocator", "alloc=take:size=9"), "take: 'size=9' is no position: they are 1 to 5"
    yield ("--pid", "1", "--light", "--listen", "127.0.0.1:1"), "--listen does nothing with --light"
    yield ("--pid", "1", "--light", "--children"), "--children does nothing with --light, which looks at one process"
    yield ("--pid", "1", "--light", "--min-size", "1KiB"), "--min-size does nothing with --light"
    yield ("--pid", "1", "--light", "--fail-on", "leak"), "use --fail-on growth with --light"
    yield ("--pid", "1", "--light", "--save", "report.json"), "--save does nothing with --light"
    yield ("--pid", "1", "--light", "--format", "pprof"), "--format pprof does nothing with --light"
    yield ("--pid", "1", "--explain", "--save", "report.json"), "--save does nothing with --explain"
    yield ("--pid", "1", "--explain", "--fail-on", "leak"), "--fail-on does nothing with --explain"
    yield ("--pid", "1", "--explain", "--format", "json"), "--format does nothing with --explain"
    yield ("--pid", "1", "--explain", "--light"), "--explain does nothing with --light"
    yield ("--pid", "1", "--save", "/nowhere/report.json"), "--save /nowhere/report.json: it cannot be written"
    yield ("--pid", "1", "--fail-on", "anything"), "--fail-on"


@pytest.mark.parametrize(("arguments", "said"), list(bad_inputs()))
def test_bad_input_is_one_line_and_no_traceback(arguments: tuple[str, ...], said: str) -> None:
    done = trace(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("memleak-lab: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_parser_of_this_command_is_refused_as_well() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        with pytest.raises(LabError, match=f"pid {child.pid} is of this command itself"):
            Target(child.pid, None, None, ()).find()
        child.kill()
