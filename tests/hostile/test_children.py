"""Programs that start others without end, under `trace --children`: counted, and nothing is left of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from diagnosis.trace.ended import Refusals
from tests.hostile.running import ESCAPES, hostile, memleak_lab
from tests.support.programs import compile_c

if TYPE_CHECKING:
    from pathlib import Path

STORM = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int count, char **words)
{
	(void)count;
	signal(SIGCHLD, SIG_IGN);
	prctl(PR_SET_NAME, words[1]);
	puts("ready");
	fflush(stdout);
	for (;;) {
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			void *volatile block = malloc(100);
			(void)block;
			usleep(1000);
			_exit(0);
		}
		usleep(2000);
	}
}
"""

CROWD = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(void)
{
	for (int i = 0; i < 70; i++)
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;) {
				void *volatile block = malloc(100);
				(void)block;
				usleep(10000);
			}
		}
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
"""


@pytest.mark.ebpf
@pytest.mark.timeout(120)
def test_of_a_crowd_as_many_are_traced_as_fit_into_the_memory_that_a_tracer_may_take(folder: Path) -> None:
    """How much that is, the module's fixture asserts."""
    with hostile(compile_c(CROWD, folder / "crowd")) as pid:
        result = memleak_lab("trace", "--pid", pid, "--children", "--duration", "1s")
        result.check()
    assert "The numbers are of 64 processes together." in result.out
    assert "No more than 64 processes are traced at a time" in result.out


@pytest.mark.ebpf
@pytest.mark.timeout(120)
def test_processes_that_live_for_a_millisecond_are_counted_and_leave_nothing(folder: Path) -> None:
    with hostile(compile_c(STORM, folder / "storm"), ESCAPES) as pid:
        result = memleak_lab("trace", "--pid", pid, "--children", "--duration", "3s")
        result.check()
    assert "more ended before they could be traced" in result.out


def test_of_processes_that_cannot_be_traced_the_first_are_said_and_the_others_counted() -> None:
    refusals = Refusals()
    assert refusals.notes() == []
    for number in range(100_000):
        refusals.add(f"pid {number}")
    assert refusals.notes() == ["pid 0", "pid 1", "pid 2", "99997 other processes are not traced either."]
    assert len(refusals._shown) == Refusals.SHOWN
