"""A program that calls every function of the allocator, each from a function of its own, and what each must count."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
SOURCE = Path(__file__).with_name("every_call.c")

# Frames as in native/leak: each caller of the allocator has one, and no call becomes a jump.
FLAGS = (
    "-O2",
    "-g",
    "-pthread",
    "-fno-omit-frame-pointer",
    "-fno-optimize-sibling-calls",
    "-Wall",
    "-Wextra",
    "-Werror",
)

# Function: bytes outstanding, allocations, frees. Those that fail and those that take nothing are absent.
ON_THE_HEAP = {
    "by_malloc": (1000, 1, 0),
    "by_malloc_of_nothing": (0, 1, 0),
    "by_malloc_of_a_mapping": (MIB, 1, 0),
    "by_calloc": (3000, 1, 0),
    "by_aligned_alloc": (4096, 1, 0),
    "by_memalign": (5000, 1, 0),
    "by_valloc": (6000, 1, 0),
    "by_pvalloc": (7000, 1, 0),
    "by_reallocarray": (8000, 1, 0),
    "by_posix_memalign": (9000, 1, 0),
    "taken_to_grow": (0, 1, 1),
    "by_realloc": (200_000, 1, 0),
    "taken_to_stay": (300, 1, 0),
    "taken_to_stay_too": (500, 1, 0),
    "taken_to_vanish": (0, 1, 1),
    "pairs": (0, 8000, 8000),
}
MAPPED = {
    "mapped": (0, 1, 1),
    "by_mremap": (1 << 18, 1, 0),
    "mapped_for_a_while": (0, 1, 1),
}


def compile_every_call(folder: Path) -> Path:
    """The program; the test skips where nothing compiles it."""
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler: apt-get install gcc")
    program = folder / "every_call"
    subprocess.run(["cc", *FLAGS, SOURCE, "-o", program], check=True)
    return program


@contextmanager
def waiting(program: Path, *by: str) -> Iterator[subprocess.Popen[str]]:
    """The program, waiting for the word to begin; perhaps executed by another one."""
    with subprocess.Popen([*by, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def go(process: subprocess.Popen[str]) -> None:
    """Let it call everything, and wait until it has."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"
