"""`memleak-lab trace -- COMMAND`: a program from its first allocation on."""

from __future__ import annotations

import itertools
import json
import os
import platform
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.programs import compile_c
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = [
    pytest.mark.ebpf,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="programs are started on x86-64 only"),
]

# A line that is printed is a line that is read.
WIDE = {**os.environ, "COLUMNS": "500"}
MEMLEAK_LAB = Path(sys.executable).with_name("memleak-lab")

# Takes memory in a constructor, in main and in a child; all but the child's is kept until it ends.
EARLY = """
    #include <stdio.h>
    #include <stdlib.h>
    #define SITE __attribute__((noinline, noclone, used))
    static void *volatile sink;
    SITE void taken_by_constructor(void) { for (int i = 0; i < 10; i++) sink = malloc(1000); }
    SITE void taken_by_main(void) { for (int i = 0; i < 20; i++) sink = malloc(500); }
    SITE void given_back(void) { for (int i = 0; i < 5; i++) { sink = malloc(300); free(sink); } }
    __attribute__((constructor)) static void first(void) { taken_by_constructor(); }
    int main(int argc, char **argv) {
        taken_by_main(); given_back();
        if (argc > 1) { puts(argv[1]); fflush(stdout); getchar(); }
        return 3;
    }
"""


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(EARLY, tmp_path_factory.mktemp("early") / "early", "-O2")


def trace(
    *arguments: object, environment: Mapping[str, str] | None = None, given: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MEMLEAK_LAB, "trace", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, input=given, env={**WIDE, **(environment or {})},
    )  # fmt: skip


def by_function(report: str) -> dict[str, tuple[int, int]]:
    """Allocations and bytes outstanding by the function that asked for them."""
    found: dict[str, Any] = json.loads(report)
    return {
        stack["frames"][0]["function"]: (stack["allocations"], stack["outstanding_bytes"])
        for stack in found["stacks"]
        if stack["frames"]
    }


@pytest.mark.parametrize("options", [(), ("--pair",)], ids=["session", "two-programs"])
def test_every_allocation_from_the_first_constructor_on_is_counted(early: Path, options: tuple[str, ...]) -> None:
    done = trace("--format", "json", "--all", *options, "--", early)
    assert done.returncode == 0, done.stderr
    found = by_function(done.stdout)
    assert found["taken_by_constructor"] == (10, 10_000)
    assert found["taken_by_main"] == (20, 10_000)
    assert found["given_back"] == (5, 0)


@pytest.mark.parametrize("pause", ["", "sleep 0.5;"])
def test_a_shell_that_becomes_the_program_is_followed(tmp_path: Path, pause: str) -> None:
    leaks = """
        #include <stdlib.h>
        #include <unistd.h>
        static void *volatile sink;
        __attribute__((noinline)) void grows(void) { sink = malloc(1000); }
        int main(void) { for (int i = 0; i < 600; i++) { grows(); usleep(10000); } return 5; }
    """
    program = compile_c(leaks, tmp_path / "leaks", "-O1")
    done = trace("--format", "json", "--", "sh", "-c", f"{pause} exec {program}")
    assert done.returncode == 0, done.stderr
    assert by_function(done.stdout)["grows"][0] > 300
    assert f"is {program} now: traced from here on" in done.stderr
    assert "sh ended with exit status 5" in done.stderr


def test_its_exit_status_is_a_line(early: Path) -> None:
    done = trace("--", early)
    assert done.returncode == 0
    assert f"{early} ended with exit status 3" in done.stderr


def test_it_reads_and_writes_what_the_command_line_gives_it(early: Path) -> None:
    done = trace("--format", "folded", "--", early, "--own-option", given="x")
    assert done.stdout.startswith("--own-option\n")


def test_it_may_open_as_many_files_as_without_the_trace() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert trace("--", "sh", "-c", "ulimit -n").stdout.splitlines()[0] == str(soft)


@pytest.mark.root
def test_it_runs_as_the_user_who_called_sudo() -> None:
    done = trace("--", "id", "-un", environment={"SUDO_UID": "65534"})
    assert done.stdout.splitlines()[0] == "nobody"
    assert "as nobody" in done.stderr


def test_ctrl_c_reaches_it_and_ends_the_window_with_a_report(early: Path) -> None:
    with subprocess.Popen(
        [MEMLEAK_LAB, "trace", "--format", "json", "--", early, "waits"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=WIDE,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "waits\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        report, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert by_function(report)["taken_by_main"] == (20, 10_000)
    assert f"{early} was ended by SIGINT" in said


def test_it_runs_on_when_the_window_ends_before_it(early: Path) -> None:
    with subprocess.Popen(
        [MEMLEAK_LAB, "trace", "--duration", "1s", "--", early, "waits"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=WIDE,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdin
        assert process.stderr
        # Line by line: the program keeps the other end of the pipe.
        said = list(itertools.takewhile(lambda line: "runs on, without probes" not in line, process.stderr))
        assert process.wait(60) == 0
        pid = int(said[0].removeprefix("tracing pid ").split()[0])
        assert Path(f"/proc/{pid}/status").exists()
        process.stdin.write("x")
        process.stdin.close()
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the program reads what it was given, and ends")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--pid", "1", "--", "true"), "--pid and -- COMMAND are 2 targets"),
        (("--light", "--", "true"), "--light looks at a process that runs already: start it, then: --light --pid P"),
        (("--explain", "--", "true"), "--explain looks at a process that runs already"),
        (("--", "/not/there"), "/not/there is no program that can be run"),
    ],
)
def test_what_cannot_be_started_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = trace(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("memleak-lab: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
