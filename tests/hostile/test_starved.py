"""A target that leaves the tracer no processor: its probes go in time all the same, with what they counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from diagnosis.target.process import Process
from diagnosis.trace.guard import GRACE_SECONDS
from tests.hostile.running import GENEROUS_SECONDS, MEMLEAK_LAB, hostile
from tests.support.programs import compile_c
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(300)]

THREADS = 64
WINDOW_SECONDS = 8

BUSY = """
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static volatile sig_atomic_t begun, ended;
static void begin(int number) { (void)number; begun = 1; }
static void end(int number) { (void)number; ended = 1; }
static void *work(void *unused)
{
	while (!ended) {
		void *volatile block = malloc(100);
		free(block);
	}
	return unused;
}
int main(int argc, char **argv)
{
	signal(SIGUSR1, begin);
	signal(SIGUSR2, end);
	puts("ready");
	fflush(stdout);
	while (!begun)
		usleep(1000);
	for (int i = 0; i < (argc > 1 ? atoi(argv[1]) : 1); i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, work, NULL))
			return 1;
		pthread_detach(thread);
	}
	for (;;)
		pause();
}
"""


def changed_code(pid: int) -> list[str]:
    """Mappings of libraries' code that differ from their files, as they do where a breakpoint is."""
    changed = []
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for mapping in Process(pid).code_maps():
            if not mapping.path.startswith("/"):
                continue
            memory.seek(mapping.start)
            size = mapping.end - mapping.start
            with Path(f"/proc/{pid}/root{mapping.path}").open("rb") as file:
                file.seek(mapping.offset)
                if memory.read(size) != file.read(size).ljust(size, b"\0"):
                    changed.append(mapping.path)
    return changed


def test_probes_go_in_time_beside_sixty_four_threads_that_never_pause(tmp_path: Path) -> None:
    program = compile_c(BUSY, tmp_path / "busy", "-pthread")
    command = [str(MEMLEAK_LAB), "trace", "--pid", "", "--duration", f"{WINDOW_SECONDS}s", "--format", "json", "--all"]
    with hostile(program, str(THREADS)) as pid:
        assert changed_code(pid) == []
        command[3] = str(pid)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tracer:
            try:
                wait_until(lambda: bool(changed_code(pid)), "the probes are attached", GENEROUS_SECONDS)
                os.kill(pid, signal.SIGUSR1)
                began = time.monotonic()
                wait_until(lambda: not changed_code(pid), "every probe is detached", GENEROUS_SECONDS)
                seconds = time.monotonic() - began
                # What follows is no promise: it would take its share of what the threads leave.
                os.kill(pid, signal.SIGUSR2)
                out, err = tracer.communicate(timeout=GENEROUS_SECONDS)
            finally:
                tracer.kill()
    assert tracer.returncode == 0, err
    assert seconds < WINDOW_SECONDS + GRACE_SECONDS + GENEROUS_SECONDS / 3
    found = json.loads(out)
    assert found["window_seconds"] > WINDOW_SECONDS - 0.5
    calls = {frame["function"]: stack["allocations"] for stack in found["stacks"] for frame in stack["frames"]}
    assert calls["work"] > 0
