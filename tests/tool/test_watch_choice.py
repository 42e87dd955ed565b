"""Whom `memleak-lab watch` watches, and which of those that grow it recommends to trace."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from diagnosis.base.own_command import own_command
from diagnosis.faults.watch import Grower, Watch, all_pids, watch
from diagnosis.output.watched import print_watch
from tests.support.programs import compile_c, running
from tests.tool.test_growth import GROWER

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
OLD = Grower(4711, "service", 90 * MIB, 2 * MIB, False, ())
NEW = Grower(4712, "backup", 50 * MIB, 50 * MIB, True, ())


def printed(*growers: Grower) -> list[str]:
    console = Console(width=200)
    with console.capture() as captured:
        print_watch(console, Watch(10.0, 100, 1000, 0, growers))
    return captured.get().splitlines()


def test_this_process_and_what_it_started_are_not_watched() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        watched = set(all_pids())
        assert os.getppid() in {0, *watched}
        assert not watched & {os.getpid(), child.pid}
        child.kill()


@pytest.mark.ebpf
def test_a_process_that_began_within_the_window_comes_after_those_that_were_there(tmp_path: Path) -> None:
    grower = compile_c(GROWER, tmp_path / "grower", "-O2")
    with running(grower) as old, running(grower) as new:
        time.sleep(0.5)
        pids = iter([[old.pid]])
        watched = watch(lambda: next(pids, [old.pid, new.pid]), 3.0, 5, time.sleep)
    assert [(each.pid, each.began) for each in watched.growers] == [(old.pid, False), (new.pid, True)]


def test_who_began_within_the_window_is_marked() -> None:
    lines = printed(OLD, NEW)
    assert lines[0].endswith("to 90.0 MiB: service")
    assert lines[1].endswith("to 50.0 MiB, which it has taken since it began within the window: backup")


@pytest.mark.parametrize(
    ("growers", "wanted"),
    [((OLD, NEW), "trace --pid 4711"), ((NEW,), "trace --pid 4712"), ((), "watch --duration 10m")],
)
def test_the_last_line_is_the_command_as_it_is_called_here(growers: tuple[Grower, ...], wanted: str) -> None:
    assert printed(*growers)[-1].endswith(f"{own_command()} {wanted}")
