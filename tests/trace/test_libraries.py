"""Allocations through other libraries: C++'s operators, a Python extension, a second C library in the process."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.trace.tracing import PROGRAMS, Row, Target, count

if TYPE_CHECKING:
    from diagnosis.target.symbols import SymbolizedStack
    from tests.trace.conftest import Build, Trace
    from tests.trace.tracing import Closing

pytestmark = pytest.mark.ebpf

MIB = 1024 * 1024


def test_new_and_delete(trace: Trace) -> None:
    """libstdc++'s operators call malloc, and keep no frame pointer: the program's function is behind them."""

    def key(stack: SymbolizedStack) -> str:
        names = [frame.name.removesuffix("()") for frame in stack.frames if frame.module == "cxx"]
        return names[0] if names else ""

    counted = trace("cxx.cpp")
    assert counted.by(key) == {
        "new_kept": Row(3, 0, 3 * 72),
        "new_deleted": Row(3, 3, 0),
        "new_array_kept": Row(3, 0, 3 * 501),
        "new_array_deleted": Row(3, 3, 0),
        "new_nothrow_kept": Row(3, 0, 3 * 72),
        "new_aligned_kept": Row(3, 0, 3 * 256),
        "new_aligned_deleted": Row(3, 3, 0),
        "new_fails": Row(1, 1, 0),  # the exception that says that there is no memory
    }
    assert counted.lost == {}


@pytest.mark.parametrize("chunk", [64 * 1024, MIB], ids=["64KiB", "1MiB"])
def test_a_python_extension_against_its_own_ledger(closing: Closing, chunk: int, allow_session: bool) -> None:
    cap = 64 * MIB
    with (
        Target([sys.executable, PROGRAMS / "catalog.py", str(chunk), str(cap)]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        ledger = json.loads(target.go())
        counted = count(tracer)
        assert target.go() == "closed"
        closed = count(tracer)

    def inserts(stack: SymbolizedStack) -> str:
        return stack.frames[0].name if stack.frames[0].name == "catalog_cache_insert" else ""

    assert ledger == {"inserts": cap // chunk, "bytes": cap}
    assert counted.by(inserts) == {"catalog_cache_insert": Row(cap // chunk, 0, cap)}
    assert closed.by(inserts) == {"catalog_cache_insert": Row(cap // chunk, cap // chunk, 0)}
    assert counted.lost == closed.lost == {}
    frames = next(stack.frames for stack, _ in counted.stacks if inserts(stack))
    assert [frame.name for frame in frames[:2]] == ["catalog_cache_insert", "catalog_cache_refresh"]
    assert Path(frames[0].file).name == "catalog_cache.c"


TWO_LIBCS = {
    "first_kept": Row(1, 0, 100),
    "second_kept": Row(2, 0, 2000),
    "second_freed": Row(1, 1, 0),
    "second_mapped": Row(1, 0, 4096),
}


@pytest.mark.parametrize("when", ["early", "late"])
def test_the_c_library_mapped_twice(trace: Trace, when: str) -> None:
    """dlmopen maps the same file again: a probe belongs to the file, and is in both, also where it was there first."""
    counted = trace("two_libcs.c", "libc.so.6", when)
    assert counted.own == TWO_LIBCS
    assert counted.lost == {}


def test_another_c_library_beside_the_first(
    build: Build, closing: Closing, tmp_path: Path, allow_session: bool
) -> None:
    """A copy is another file, with probes of its own."""
    copy = tmp_path / "libc.so.6"
    with Target([build("two_libcs.c"), "libc.so.6", "late"]) as target:
        original = next(
            path for line in Path(f"/proc/{target.pid}/maps").read_text().splitlines()
            if (path := line.split()[-1]).endswith("/libc.so.6")
        )  # fmt: skip
    shutil.copy(original, copy)
    with (
        Target([build("two_libcs.c"), copy, "early"]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        target.go()
        counted = count(tracer)
    assert counted.own == TWO_LIBCS
    assert counted.lost == {}
