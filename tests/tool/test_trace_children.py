"""`memleak-lab trace --children` on a program that forks its workers."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.own_command import own_command
from diagnosis.cli.light import others_not_seen
from diagnosis.cli.target import Target
from diagnosis.target.process import Process
from tests.support.programs import compile_c, running
from tests.support.waiting import wait_until
from tests.tool.accounts import assert_adds_up, part
from tests.tool.tracing import report

if TYPE_CHECKING:
    from pathlib import Path

# A master that allocates nothing, and three workers that leak 3,000 bytes a millisecond each; recycled or not.
PREFORK = r"""
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
static void *volatile sink;
__attribute__((noinline)) void handle_request(void)
{
    sink = malloc(3000);
    memset(sink, 1, 3000);
    __asm__ volatile("");
}
static void worker(int most)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < most; i++) { handle_request(); usleep(1000); }
    _exit(0);
}
int main(int argc, char **argv)
{
    int most = argc > 1 ? atoi(argv[1]) : 1;
    for (int i = 0; i < 3; i++)
        if (!fork()) worker(most);
    for (;;) { wait(0); if (!fork()) worker(most); }
}
"""


@pytest.mark.ebpf
def test_children_are_traced_with_their_parent(folder: Path) -> None:
    with running(compile_c(PREFORK, folder / "prefork", "-O2"), "100000000") as process:
        wait_until(lambda: len(Process(process.pid).children()) == 3, "the workers are there")
        found = report("--pid", process.pid, "--children", "--duration", "6s")
    assert found["verdict"]["answer"] in ("leak", "growing"), found["verdict"]  # by how evenly it could run
    assert found["verdict"]["function"] == "handle_request"
    (stack,) = [each for each in found["stacks"] if each["outstanding_bytes"]]
    assert stack["outstanding_bytes"] == 3000 * stack["allocations"]
    assert_adds_up(found)
    assert part(found, "live") == pytest.approx(stack["outstanding_bytes"], rel=0.2)  # read a moment before or after
    assert "The numbers are of 4 processes together." in found["notes"]


@pytest.mark.ebpf
def test_children_that_are_not_traced_are_said(folder: Path) -> None:
    with running(compile_c(PREFORK, folder / "prefork", "-O2"), "100000000") as process:
        wait_until(lambda: len(Process(process.pid).children()) == 3, "the workers are there")
        found = report("--pid", process.pid, "--duration", "1s")
    assert not found["verdict"]["leak"]
    assert any(note.endswith("Add --children.") for note in found["notes"])


@pytest.mark.ebpf
def test_light_says_that_it_looked_at_the_parent_alone(folder: Path) -> None:
    with running(compile_c(PREFORK, folder / "prefork", "-O2"), "100000000") as process:
        wait_until(lambda: len(Process(process.pid).children()) == 3, "the workers are there")
        found = report("--light", "--pid", process.pid, "--duration", "1s")
    (note,) = (each for each in found["notes"] if each.startswith("3 child processes have memory that is not in"))
    assert note.endswith(f"See which of them grow: {own_command()} watch")


def test_light_says_how_many_processes_a_container_has_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the command itself are none: it may run in the same container, or be a child of who is looked at."""
    own = Process(os.getpid())
    web, pod = Target(None, "web", None, ()), Target(None, None, "default/web", ())
    with subprocess.Popen(["sleep", "60"]) as child:
        monkeypatch.setattr("diagnosis.cli.target.container_of", lambda _: lambda: {own.pid, child.pid})
        assert others_not_seen(web, own) == ()
        monkeypatch.setattr("diagnosis.cli.target.own_family", lambda: {own.pid})
        (note,) = others_not_seen(web, own)
        (of_pod,) = others_not_seen(pod, own)
        child.kill()
    assert note.startswith("1 other process has memory that is not in these numbers")
    assert note.endswith(f"pid {own.pid}. See which of them grow: {own_command()} watch --container web")
    assert of_pod.endswith(f"{own_command()} watch")
