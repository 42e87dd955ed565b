"""A part of a function that GCC moved away, found in a stripped file: by what the function jumps into."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.parser.file_symbols import Symbols, frame_information
from diagnosis.target.parser.moved_code import RUNS_PYTHON, moved_parts
from tests.support.programs import compile_c

if TYPE_CHECKING:
    from pathlib import Path

# `unlikely` takes what is below it out of the function; `elsewhere` is a whole function, called as the last one.
SOURCE = """
#include <stdlib.h>
__attribute__((noinline, cold, used)) int elsewhere(int n) { return n * 3 + rand(); }
__attribute__((noinline)) int _PyEval_EvalFrameDefault(int n) {
    if (__builtin_expect(n == 77, 0)) {
        for (int i = 0; i < n; i++) n += rand() ^ i;
        if (n & 1) n = elsewhere(n) + 1;
        abort();
    }
    if (n == 5) return elsewhere(n);
    return n + rand() % 7;
}
int main(int argc, char **argv) { (void)argv; return _PyEval_EvalFrameDefault(argc); }
"""


@pytest.fixture(scope="module", params=["-no-pie", "-fPIE"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, range]:
    """A program, and where nm says that the moved part lies, from the file's first segment on."""
    kind = ["-no-pie", "-fno-pie"] if request.param == "-no-pie" else ["-pie", "-fPIE"]
    optimised = ("-O2", "-rdynamic", "-foptimize-sibling-calls", "-freorder-blocks-and-partition")
    program = compile_c(SOURCE, tmp_path_factory.mktemp("moved") / "python", *optimised, *kind)
    for line in subprocess.run(["nm", "-S", program], capture_output=True, text=True, check=True).stdout.splitlines():
        if line.endswith(f"{RUNS_PYTHON}.cold"):
            start, size = (int(each, 16) for each in line.split()[:2])
            base = 0x400000 if request.param == "-no-pie" else 0
            return program, range(start - base, start - base + size)
    pytest.skip("this compiler moves nothing away")


def test_a_stripped_file_has_the_part_under_the_functions_name(built: tuple[Path, range], tmp_path: Path) -> None:
    program, part = built
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, program], check=True)
    with stripped.open("rb") as file:
        descriptor = file.fileno()
        assert moved_parts(descriptor, RUNS_PYTHON, lambda: frame_information(descriptor)) == (part,)
        symbols = Symbols([descriptor], debug=True)
    assert symbols.lookup(part.start) == symbols.lookup(part.stop - 1) == [(RUNS_PYTHON, "", 0)]
    assert symbols.lookup(part.stop) != symbols.lookup(part.start)


def test_a_file_that_names_its_own_functions_is_not_looked_through(built: tuple[Path, range]) -> None:
    program, part = built
    with program.open("rb") as file:
        assert moved_parts(file.fileno(), RUNS_PYTHON, lambda: pytest.fail("it was read")) == ()
        assert Symbols([file.fileno()], debug=True).lookup(part.start)[0][0] == RUNS_PYTHON


def test_a_file_without_such_a_function_has_no_parts(built: tuple[Path, range]) -> None:
    with built[0].open("rb") as file:
        assert moved_parts(file.fileno(), "absent", lambda: pytest.fail("it was read")) == ()
