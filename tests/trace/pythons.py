"""The interpreters of this machine, and the Python functions of what was traced in one."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.symbols import Symbolizer
from tests.trace.tracing import NO_DEBUG_FILES

if TYPE_CHECKING:
    from diagnosis.target.symbols import SymbolizedStack
    from diagnosis.trace.counts import Counts
    from diagnosis.trace.tracer import Tracer

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
OF_THE_DISTRIBUTION = "/usr/bin/python3"
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


def stacks_of(tracer: Tracer) -> list[tuple[SymbolizedStack, Counts]]:
    """The stacks that took something, each with all of its names."""
    found, lost = named_stacks(tracer)
    assert lost == {}, lost
    return found


def named_stacks(tracer: Tracer) -> tuple[list[tuple[SymbolizedStack, Counts]], dict[str, str]]:
    """The same, and which names are missing."""
    snapshot = tracer.snapshot()
    with Symbolizer(tracer.process, NO_DEBUG_FILES) as symbolizer:
        found = [
            (symbolizer.symbolize(tracer.frames(stack), tracer.ending(stack), tracer.python(stack)), counts)
            for stack, counts in snapshot.counts.items()
            if counts.allocations
        ]
        return found, symbolizer.lost_names()


def python_places(stack: SymbolizedStack) -> tuple[Place, ...]:
    return tuple((frame.function, frame.file, frame.line) for frame in stack.frames if frame.python)


def by_ctypes(stack: SymbolizedStack) -> bool:
    """True where Python called malloc itself, as the program does for the blocks that it notes."""
    return "ffi" in stack.frames[0].module or "_ctypes" in stack.frames[0].module


def taken_by_ctypes(tracer: Tracer) -> Counter[tuple[Place, ...]]:
    """How many blocks Python took by malloc itself, by the Python functions of each stack."""
    taken: Counter[tuple[Place, ...]] = Counter()
    for stack, counts in stacks_of(tracer):
        if by_ctypes(stack):
            taken[python_places(stack)] += counts.allocations
    return taken


def first_interpreter() -> str:
    found = distribution_interpreter() or next(filter(None, map(interpreter, VERSIONS)), "")
    if not found:
        pytest.skip("no Python of 3.11 to 3.14 is installed")
    return found
