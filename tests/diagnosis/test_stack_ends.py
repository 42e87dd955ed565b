"""Where a stack ends, and whether more of it is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from heap_trace import MAX_FRAMES, Ending

from diagnosis.target.symbols import Frame, SymbolizedStack, Symbolizer
from tests.diagnosis.walking import CHAIN, HEADER, NO_DEBUG_FILES, WALK, symbolize, walked
from tests.support.programs import compile_c

if TYPE_CHECKING:
    from pathlib import Path


def test_behind_the_start_of_the_program_a_stack_misses_nothing(folder: Path) -> None:
    """As with glibc 2.43, which starts programs with a number in the frame pointer's register."""
    program = compile_c(WALK + HEADER + CHAIN.replace("walk(3)", "walk(4)"), folder / "started")
    with walked(program, frames=4) as (process, addresses), Symbolizer(process, NO_DEBUG_FILES) as symbolizer:
        whole = symbolizer.symbolize([*addresses, 0, 0x45445F43])
        inside = symbolizer.symbolize([*addresses[:2], 0])
    assert [frame.function for frame in whole.frames] == ["inner", "middle", "main", ""]
    assert not whole.broken
    assert not whole.cut_short
    assert inside.broken


# qsort of the C library calls back: what called qsort is not known.
SORTS = """
#include <stdlib.h>
static int compare(const void *one, const void *other) { (void)one; (void)other; walk(2); return 0; }
int main(void) { int two[2] = {2, 1}; qsort(two, 2, sizeof *two, compare); return 0; }
"""


def test_a_stack_that_ends_elsewhere_in_the_c_library_is_broken(folder: Path) -> None:
    program = compile_c(WALK + HEADER + SORTS, folder / "sorts")
    with (
        walked(program, frames=2) as (process, addresses),
        Symbolizer(process, NO_DEBUG_FILES) as symbolizer,
    ):
        stack = symbolizer.symbolize([*addresses, 0])
    assert [frame.module.partition(".")[0] for frame in stack.frames] == ["sorts", "libc"]
    assert stack.broken


@pytest.mark.parametrize(("frames", "whole"), [(4, True), (2, False)])
def test_no_table_behind_main_is_the_start_of_the_program(folder: Path, frames: int, whole: bool) -> None:
    """As with musl, whose start of a program has none; elsewhere frames are missing."""
    program = compile_c(WALK + HEADER + CHAIN.replace("walk(3)", "walk(4)"), folder / "started")
    with walked(program, frames=4) as (process, addresses), Symbolizer(process, NO_DEBUG_FILES) as symbolizer:
        stack = symbolizer.symbolize(addresses[:frames], Ending.NO_TABLE)
    assert stack.ending is (Ending.START if whole else Ending.NO_TABLE)
    assert stack.cut_short is not whole


@pytest.mark.parametrize("astray", [0, 1, 0xDEAD_BEEF_0000, 2**64 - 1])
def test_a_stack_is_cut_where_no_code_is_mapped(chain: Path, astray: int) -> None:
    with walked(chain) as (process, addresses), Symbolizer(process) as symbolizer:
        stack = symbolizer.symbolize([addresses[0], astray, *addresses[1:]])
    assert [frame.function for frame in stack.frames] == ["inner"]
    assert stack.broken
    assert stack.depth == 4


def test_a_stack_without_an_address_is_broken(chain: Path) -> None:
    with walked(chain) as (process, _), Symbolizer(process) as symbolizer:
        assert symbolizer.symbolize([]) == SymbolizedStack((), broken=True, depth=0)


def in_module(function: str, module: str = "catalog") -> Frame:
    return Frame(function, module, "", 0, 0)


@pytest.mark.parametrize(
    ("frames", "short"),
    [
        ([in_module("insert"), in_module("refresh"), in_module("start_thread", "libc.so.6")], False),
        ([in_module("insert"), in_module("main")], False),
        ([in_module("insert"), in_module("", "libc.so.6")], False),
        ([in_module("insert"), in_module("", "ld-musl-x86_64.so.1")], False),
        ([in_module("insert"), in_module("refresh")], True),
        ([in_module("insert"), in_module("", "libcrypto.so.3")], True),
        ([in_module("start_thread", "libc.so.6")], True),
        ([], True),
    ],
)
def test_a_stack_that_ends_before_its_thread_s_start_is_cut_short(frames: list[Frame], short: bool) -> None:
    assert SymbolizedStack(tuple(frames), broken=False, depth=len(frames)).cut_short is short
    assert SymbolizedStack(tuple(frames), broken=True, depth=len(frames)).cut_short


def test_a_stack_that_fills_its_room_is_deep_and_not_cut_short() -> None:
    deep = SymbolizedStack((in_module("insert"),) * MAX_FRAMES, broken=False, depth=MAX_FRAMES)
    assert not deep.cut_short


def test_a_real_stack_goes_to_the_start_of_its_thread(chain: Path) -> None:
    assert not symbolize(chain).cut_short
    assert symbolize(chain, 2).cut_short
