"""Whose Python functions are in a stack, while threads come and go."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.symbols import Symbolizer
from tests.trace.pythons import by_ctypes, stacks_of, taken_by_ctypes
from tests.trace.tracing import FLAGS, NO_DEBUG_FILES, PROGRAMS, Target

if TYPE_CHECKING:
    from pathlib import Path

    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing

pytestmark = pytest.mark.ebpf


def test_a_thread_is_found_while_others_come_and_go(python: str, closing: Closing) -> None:
    with (
        Target([python, PROGRAMS / "python_churn.py", "300"]) as target,
        closing.tracing(target, min_bytes=30_000) as tracer,
    ):
        blocks = int(target.go())
        traced: Counter[str] = Counter()
        for stack, counts in stacks_of(tracer):
            if by_ctypes(stack):
                traced[next((frame.function for frame in stack.frames if frame.python), "")] += counts.allocations
    assert traced == {"takes": blocks}


CALLBACKS_C = """
#include <pthread.h>
#include <stddef.h>
static void (*function)(void);
static void *calls(void *times) { for (size_t i = 0; i < (size_t)times; i++) function(); return NULL; }
void call_in_a_thread(void (*callback)(void), size_t times)
{
	pthread_t thread;
	function = callback;
	if (!pthread_create(&thread, NULL, calls, (void *)times)) pthread_join(thread, NULL);
}
"""
CALLBACKS = """
import ctypes, sys
take = ctypes.CDLL(None).malloc
@ctypes.CFUNCTYPE(None)
def takes(): take(40000)
library = ctypes.CDLL(sys.argv[1])
print("stop", flush=True); sys.stdin.readline()
for _ in range(20): library.call_in_a_thread(takes, ctypes.c_size_t(20))
print("end", flush=True); sys.stdin.readline()
"""


def test_a_thread_of_c_has_a_state_of_its_own_in_each_callback(python: str, closing: Closing, tmp_path: Path) -> None:
    """What is freed after a callback still says whose state it was."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed: apt-get install gcc")
    source, library, program = tmp_path / "callbacks.c", tmp_path / "libcallbacks.so", tmp_path / "app.py"
    source.write_text(CALLBACKS_C)
    subprocess.run(["gcc", *FLAGS, "-fPIC", "-shared", "-pthread", "-o", library, source], check=True)
    program.write_text(CALLBACKS)
    with (
        Target([python, program, library]) as target,
        closing.tracing(target, min_bytes=30_000) as tracer,
    ):
        target.go()
        traced = taken_by_ctypes(tracer)
    assert traced == {(("takes", str(program), 5),): 400}


@pytest.mark.parametrize(
    ("threads", "frames"),
    [
        ("changing", {"takes": (0, "in 1 stacks its functions could not be read"), "takes_more": (1, "")}),
        ("starting", {"takes": (1, ""), "takes_more": (1, "")}),
        ("astray", {"takes": (1, ""), "takes_more": (0, "in 1 stacks its functions could not be read")}),
    ],
)
def test_a_list_of_threads_that_is_being_changed_or_has_no_end_hides_none_in_silence(
    threads: str, frames: dict[str, tuple[int, str]], build: Build, closing: Closing
) -> None:
    program = build("false_python.c", "-rdynamic", name="python3.11")
    with (
        Target([program, threads]) as target,
        closing.tracing(target) as tracer,
    ):
        target.go()
        found = {}
        for stack in tracer.snapshot().counts:
            with Symbolizer(tracer.process, NO_DEBUG_FILES) as symbolizer:
                native = symbolizer.symbolize(tracer.frames(stack), tracer.ending(stack))
                python = tracer.python(stack)
                for site in {frame.name for frame in native.frames} & {"takes", "takes_more"}:
                    assert python
                    if not python.frames:
                        symbolizer.symbolize(tracer.frames(stack), tracer.ending(stack), python)
                    found[site] = len(python.frames), symbolizer.lost_names().get("Python", "")
    assert found == frames
