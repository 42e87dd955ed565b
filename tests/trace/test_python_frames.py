"""Python functions in stacks: those that the program says, on every interpreter that is here."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from heap_trace import Ending

from diagnosis.report.site import CallSite, call_site
from diagnosis.target.symbols import Symbolizer
from tests.trace.tracing import FLAGS, NO_DEBUG_FILES, PROGRAMS, Row, Target, count, report_on

if TYPE_CHECKING:
    from diagnosis.target.symbols import SymbolizedStack
    from diagnosis.trace.counts import Counts
    from diagnosis.trace.tracer import Tracer
    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing

pytestmark = pytest.mark.ebpf

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
OF_THE_DISTRIBUTION = "/usr/bin/python3"
PROGRAM = PROGRAMS / "python_frames.py"
TIMES = 70
LEAST_BLOCKS = 3000

Place = tuple[str, str, int]


@functools.cache
def interpreter(version: str) -> str:
    """The path of an interpreter that runs here, with ctypes: on the PATH, or among pyenv's."""
    found = (Path(folder, f"python{version}") for folder in os.get_exec_path())
    managed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    for path in (*found, *managed):
        if not path.exists():
            continue
        asked = subprocess.run(
            [path, "-c", "import sys, ctypes; print('%d.%d' % sys.version_info[:2], sys.executable)"],
            capture_output=True,
            text=True,
            check=False,
        )
        is_version, _, executable = asked.stdout.strip().partition(" ")
        if is_version == version:
            return executable
    return ""


@functools.cache
def distribution_interpreter() -> str:
    """The distribution's Python, which is stripped, where it is of a version whose frames are known."""
    asked = "import sys, ctypes; sys.exit(not (3, 11) <= sys.version_info < (3, 15))"
    with contextlib.suppress(OSError):
        if subprocess.run([OF_THE_DISTRIBUTION, "-c", asked], capture_output=True, check=False).returncode == 0:
            return OF_THE_DISTRIBUTION
    return ""


@pytest.fixture(params=("distribution", *VERSIONS))
def python(request: pytest.FixtureRequest) -> str:
    """The distribution's interpreter, and one of each version."""
    found = distribution_interpreter() if request.param == "distribution" else interpreter(request.param)
    if not found:
        pytest.skip(f"python ({request.param}) is not installed, is of another version, or has no ctypes")
    return found


def stacks_of(tracer: Tracer) -> list[tuple[SymbolizedStack, Counts]]:
    snapshot = tracer.snapshot()
    with Symbolizer(tracer.process, NO_DEBUG_FILES) as symbolizer:
        found = [
            (symbolizer.symbolize(tracer.frames(stack), tracer.ending(stack), tracer.python(stack)), counts)
            for stack, counts in snapshot.counts.items()
            if counts.allocations
        ]
        assert not symbolizer.lost_names()
    return found


def python_places(stack: SymbolizedStack) -> tuple[Place, ...]:
    return tuple((frame.function, frame.file, frame.line) for frame in stack.frames if frame.python)


def by_ctypes(stack: SymbolizedStack) -> bool:
    """True where Python called malloc itself, as the program does for the blocks that it notes."""
    return "ffi" in stack.frames[0].module or "_ctypes" in stack.frames[0].module


def compared(tracer: Tracer, target: Target) -> tuple[Counter[tuple[Place, ...]], Counter[tuple[Place, ...]]]:
    """What the program says and what was traced, by the Python functions of each stack."""
    truth = {
        tuple((function, file, line) for function, file, line in stack): count
        for count, stack in json.loads(target.go())
    }
    traced: Counter[tuple[Place, ...]] = Counter()
    for stack, counts in stacks_of(tracer):
        if by_ctypes(stack):
            traced[python_places(stack)] += counts.allocations
    return Counter(truth), traced


def test_every_stack_has_the_functions_files_and_lines_that_the_program_says(python: str, closing: Closing) -> None:
    with (
        Target([python, PROGRAM, str(TIMES)]) as target,
        closing.tracing(target, min_bytes=30_000) as tracer,
    ):
        truth, traced = compared(tracer, target)
        assert truth.total() > LEAST_BLOCKS
        assert traced == truth
        assert not tracer.notes


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
        traced: Counter[tuple[Place, ...]] = Counter()
        for stack, counts in stacks_of(tracer):
            if by_ctypes(stack):
                traced[python_places(stack)] += counts.allocations
    assert traced == {(("takes", str(program), 5),): 400}


def test_two_programs_read_them_as_well(closing: Closing) -> None:
    python = first_interpreter()
    with (
        Target([python, PROGRAM, "10"]) as target,
        closing.tracing(target, min_bytes=30_000, allow_session=False) as tracer,
    ):
        truth, traced = compared(tracer, target)
        assert traced == truth


def test_threads_that_have_other_numbers_in_their_own_namespace(closing: Closing) -> None:
    command = ["unshare", "--pid", "--fork", first_interpreter(), str(PROGRAM), "10"]
    with (
        Target(command, inside=True) as target,
        closing.tracing(target, min_bytes=30_000) as tracer,
    ):
        truth, traced = compared(tracer, target)
        assert traced == truth
        assert not tracer.notes


def first_interpreter() -> str:
    found = distribution_interpreter() or next(filter(None, map(interpreter, VERSIONS)), "")
    if not found:
        pytest.skip("no Python of 3.11 to 3.14 is installed")
    return found


LEAKS = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
kept = {}
def parse_upload(): library.leak_buf()
def remember(i): kept[i] = bytes(2000)
def handle(i):
    for _ in range(20): parse_upload(); remember((i, _))
for i in range(10):
    print("stop", flush=True); sys.stdin.readline(); handle(i)
print("end", flush=True); sys.stdin.readline()
"""


def test_c_that_leaks_is_named_with_its_python_caller_and_python_that_grows_by_itself(
    python: str, closing: Closing, tmp_path: Path
) -> None:
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed: apt-get install gcc")
    source, library, program = tmp_path / "leak.c", tmp_path / "libleak.so", tmp_path / "app.py"
    source.write_text("#include <stdlib.h>\nvoid *leak_buf(void) { char *volatile p = malloc(300000); return p; }\n")
    subprocess.run(["gcc", *FLAGS, "-fPIC", "-shared", "-o", library, source], check=True)
    program.write_text(LEAKS)
    with (
        Target([python, program, library]) as target,
        closing.tracing(target, min_bytes=1500) as tracer,
    ):
        report = report_on(tracer, *[target.go] * 10)
    sites = {call_site(stack.frames): stack for stack in report.stacks if stack.outstanding_bytes}
    assert CallSite("leak_buf", "parse_upload") in sites
    assert CallSite("remember", "handle") in sites
    assert (report.verdict.function, report.verdict.caller) == ("leak_buf", "parse_upload")
    grown = sites[CallSite("remember", "handle")]
    place = next(frame for frame in grown.frames if frame.python)
    assert (place.file, place.line) == (str(program), 6)


def test_more_functions_than_are_kept_lose_the_outermost(python: str, closing: Closing, tmp_path: Path) -> None:
    program = tmp_path / "deep.py"
    program.write_text(
        "import ctypes, sys\ntake = ctypes.CDLL(None).malloc\n"
        "def deep(n):\n    if n: deep(n - 1)\n    else: take(40000)\n"
        "print('stop', flush=True); sys.stdin.readline(); deep(400)\nprint('end', flush=True); sys.stdin.readline()\n"
    )
    with (
        Target([python, program]) as target,
        closing.tracing(target, min_bytes=30_000) as tracer,
    ):
        target.go()
        (stack,) = [stack for stack, _ in stacks_of(tracer) if by_ctypes(stack)]
    assert stack.ending is Ending.START
    assert [place[::2] for place in python_places(stack)] == [("deep", 5), *[("deep", 4)] * 255]


def test_a_python_that_is_too_old_is_traced_without_them_and_that_is_said(closing: Closing, tmp_path: Path) -> None:
    old = next(filter(None, map(interpreter, ("3.10", "3.9", "3.8"))), "")
    if not old:
        pytest.skip("no Python before 3.11 is installed")
    program = tmp_path / "old.py"
    program.write_text(
        "import sys\nprint('stop', flush=True); sys.stdin.readline(); kept = bytes(50000)\n"
        "print('end', flush=True); sys.stdin.readline()\n"
    )
    with Target([old, program]) as target, closing.tracing(target, min_bytes=30_000) as tracer:
        target.go()
        assert any("older than 3.11" in note for note in tracer.notes)
        assert not any(frame.python for stack, _ in stacks_of(tracer) for frame in stack.frames)


@pytest.mark.parametrize("frames", ["loop", "astray"])
def test_a_program_that_only_says_it_is_python_is_counted_exactly(
    frames: str, build: Build, closing: Closing, allow_session: bool
) -> None:
    program = build("false_python.c", "-rdynamic", name="python3.11")
    with (
        Target([program, frames]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        assert not tracer.notes  # it is believed
        target.go()
        counted = count(tracer)
    assert counted.own == {"takes": Row(1000, 0, 100_000), "takes_more": Row(1000, 0, 100_000)}
    assert not counted.lost


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
