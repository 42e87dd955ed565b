"""The lines of README and docs/ that trace a process, run as they stand on a process that leaks.

Only its pid, a shorter time and a free port are put in. Lines that name a container or a pod run in tests/system.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from scripts.imports import ROOT
from tests.support.programs import answer, compile_c, running
from tests.tool.tracing import MEMLEAK_LAB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER = """
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
__attribute__((noinline)) void *pool_take(void *pool, size_t size) { (void)pool; return malloc(size); }
__attribute__((noinline)) void pool_give(void *pool, void *block) { (void)pool; free(block); }
__attribute__((noinline)) void *keep(size_t size) { return memset(malloc(size), 1, size); }
static void leave(int number) { (void)number; _exit(0); }
int main(void)
{
	const char *seconds = getenv("END_AFTER_SECONDS");

	alarm(seconds ? (unsigned)atoi(seconds) : 120);
	signal(SIGALRM, leave);
	puts("ready");
	fflush(stdout);
	for (;;) {
		pool_give(NULL, pool_take(NULL, 100));
		if (!keep(16384))
			return 1;
		usleep(2000);
	}
}
"""
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def documented() -> Iterator[str]:
    """Each line, without the remark behind it and its time."""
    for path in DOCUMENTS:
        for line in "".join(BLOCK.findall(path.read_text())).splitlines():
            command = line.split(" #")[0].rstrip()
            if re.search(r"memleak-lab (watch|trace)\b", command) and not re.search(r"--(container|pod) ", command):
                yield re.sub(r"--pid \d+", "--pid 4711", re.sub(r" --duration \S+", "", command))


LINES = sorted(set(documented()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the lines run: the program as ./server, and a PATH on which sudo is not needed and pictures are text."""
    folder = tmp_path_factory.mktemp("lines")
    compile_c(SERVER, folder / "server", "-O2", "-rdynamic")
    for name, script in (("sudo", 'exec "$@"'), ("memleak-lab", f'exec {MEMLEAK_LAB} "$@"'), ("flamegraph.pl", "cat")):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


def test_there_are_lines_to_run() -> None:
    assert len(LINES) > 10


@pytest.mark.ebpf
@pytest.mark.parametrize("line", LINES)
def test_a_line_does_what_it_says(line: str, folder: Path, unused_tcp_port: int) -> None:
    with running(folder / "server") as process:
        assert answer(process) == "ready"
        command = re.sub(r"memleak-lab (watch|trace)", r"memleak-lab \1 --duration 1s", line)
        command = command.replace("--pid 4711", f"--pid {process.pid}").replace(":9435", f":{unused_tcp_port}")
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "END_AFTER_SECONDS": "2"},
            capture_output=True,
            check=False,
        )
    # A second is short for a verdict.
    assert done.returncode in ({0, 3} if "--fail-on" in line else {0}), done.stderr.decode()
    written = [
        done.stdout,
        *(path.read_bytes() for path in map(folder.joinpath, re.findall(r"(?:>|--save) (\S+)", line))),
    ]
    assert any(written), line
