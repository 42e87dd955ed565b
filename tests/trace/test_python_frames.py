"""Python functions in stacks: those that the program says, on every interpreter that is here."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from heap_trace import Ending

from diagnosis.report.site import CallSite, call_site
from tests.trace.pythons import (
    by_ctypes,
    first_interpreter,
    interpreter,
    named_stacks,
    python_places,
    stacks_of,
    taken_by_ctypes,
)
from tests.trace.tracing import FLAGS, PROGRAMS, Row, Target, count, report_on

if TYPE_CHECKING:
    from pathlib import Path

    from diagnosis.trace.tracer import Tracer
    from tests.trace.conftest import Build
    from tests.trace.pythons import Place
    from tests.trace.tracing import Closing

pytestmark = pytest.mark.ebpf

PROGRAM = PROGRAMS / "python_frames.py"
TIMES = 70
LEAST_BLOCKS = 3000


def compared(tracer: Tracer, target: Target) -> tuple[Counter[tuple[Place, ...]], Counter[tuple[Place, ...]]]:
    """What the program says and what was traced, by the Python functions of each stack."""
    truth = {
        tuple((function, file, line) for function, file, line in stack): count
        for count, stack in json.loads(target.go())
    }
    return Counter(truth), taken_by_ctypes(tracer)


def test_every_stack_has_the_functions_files_and_lines_that_the_program_says(python: str, closing: Closing) -> None:
    with (
        Target([python, PROGRAM, str(TIMES)]) as target,
        closing.tracing(target, min_bytes=30_000) as tracer,
    ):
        truth, traced = compared(tracer, target)
        assert truth.total() > LEAST_BLOCKS
        assert traced == truth
        assert not tracer.notes


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


ENDING = """
import ctypes, sys
take = ctypes.CDLL(None).malloc
class Kept:
    def __del__(self): take(40000)
def work(_): kept = Kept()
def app(): list(map(work, range(3)))
print("stop", flush=True); sys.stdin.readline(); app()
print("end", flush=True); sys.stdin.readline()
"""


def test_what_a_function_held_is_freed_when_it_has_ended(python: str, closing: Closing, tmp_path: Path) -> None:
    """From 3.12 on its native frame is there still, and runs no function any more."""
    program = tmp_path / "ending.py"
    program.write_text(ENDING)
    with Target([python, program]) as target, closing.tracing(target, min_bytes=30_000) as tracer:
        target.go()
        found, lost = named_stacks(tracer)
    blocks: Counter[tuple[str, ...]] = Counter()
    for stack, counts in found:
        if by_ctypes(stack):
            blocks[tuple(place[0] for place in python_places(stack))] += counts.allocations
    assert blocks == {("Kept.__del__", "app", "<module>"): 3}
    assert lost == {}


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
