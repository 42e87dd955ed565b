"""Rows of code without call frame information: what is read from the code is what compilers say, or nothing."""

from __future__ import annotations

import os
from bisect import bisect_right
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from elftools.elf.elffile import ELFFile
from heap_trace.unwind import Rule, RuleKind

from diagnosis.target.parser import code_frames
from diagnosis.target.parser.code_frames import CodeFrames, Intervals, Known, TooMuch
from diagnosis.target.parser.code_rows import frames_of, functions_by_address, rows_of_code
from diagnosis.target.parser.elf import functions, read_facts
from diagnosis.target.unwinding import read_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from heap_trace.unwind import ObjectRows

    from diagnosis.target.parser.stack_effects import Frame

START = 0x1000

LIBRARIES = tuple(
    path
    for name in ("libc.so.6", "libsqlite3.so.0", "libz.so.1")
    if (path := Path("/usr/lib/x86_64-linux-gnu", name)).exists()
)
MUSL = Path("/usr/lib/x86_64-linux-musl/libc.so")


def frames(code: str, *entries: int, no_return: tuple[int, ...] = ()) -> dict[int, Frame]:
    """The frames of some code, by the distance from its start."""
    held = bytes.fromhex(code)

    def read(address: int, most: int) -> bytes:
        return held[address - START :][:most] if address >= START else b""

    read_from = CodeFrames(
        read, [START + each for each in entries or (0,)], [START + each for each in no_return],
        Intervals([(START, START + len(held))]),
    )  # fmt: skip
    return {each.start - START: each.frame for each in read_from.known()}


def places(code: str, *entries: int, no_return: tuple[int, ...] = ()) -> dict[int, int | None]:
    """Of each instruction, how far the stack pointer is from the frame's start."""
    return {at: frame.stack for at, frame in frames(code, *entries, no_return=no_return).items()}


def test_pushes_and_pops_move_the_stack_pointer() -> None:
    """push %rbx; sub $16, %rsp; add $16, %rsp; pop %rbx; ret"""
    assert places("53 4883ec10 4883c410 5b c3") == {0: 8, 1: 16, 5: 32, 9: 16, 10: 8}


def test_a_frame_pointer_is_saved_set_up_and_left() -> None:
    """push %rbp; mov %rsp, %rbp; and $-64, %rsp; nop; leave; ret"""
    found = frames("55 4889e5 4883e4c0 90 c9 c3")
    assert [found[at].saved for at in (0, 1, 4, 8, 9)] == [0, 16, 16, 16, 16]
    assert (found[8].stack, found[8].pointer) == (None, 16)
    assert (found[10].stack, found[10].is_callers) == (8, True)


def test_both_ways_of_a_branch_are_followed() -> None:
    """test %edi, %edi; je 1f; push %rbx; pop %rbx; ret; 1: sub $8, %rsp; add $8, %rsp; ret"""
    assert places("85ff 7403 53 5b c3 4883ec08 4883c408 c3") == {0: 8, 2: 8, 4: 8, 5: 16, 6: 8, 7: 8, 11: 16, 15: 8}


def test_where_two_ways_contradict_each_other_nothing_is_known() -> None:
    """test %edi, %edi; je 1f; push %rbx; 1: nop; hlt"""
    assert places("85ff 7401 53 90 f4") == {0: 8, 2: 8, 4: 8}


def test_a_return_from_the_middle_of_a_frame_says_that_what_led_to_it_was_wrong() -> None:
    """push %rbx; nop; ret"""
    assert places("53 90 c3") == {}


def test_behind_a_call_that_never_returns_there_is_nothing() -> None:
    """push %rbx; call 1f; nop; ret; 1: hlt: the callee is found not to return. Or it is named as such."""
    assert places("53 e802000000 90 c3 f4") == {0: 8, 1: 16, 8: 8}
    assert places("53 e802000000 90 c3 c3", 0, 8, no_return=(8,)) == {0: 8, 1: 16, 8: 8}


def test_a_function_without_a_name_is_found_by_its_call_and_by_its_address() -> None:
    """call 1f; lea 2f(%rip), %rax; ret; 1: push %rbx; pop %rbx; ret; 2: push %rbx; pop %rbx; ret"""
    assert places("e808000000 488d0504000000 c3 53 5b c3 53 5b c3").keys() >= {13, 14, 15, 16, 17, 18}


@pytest.mark.parametrize("strange", ["4894", "c8100000", "5c", "6650"], ids=["xchg", "enter", "pop %rsp", "push %ax"])
def test_an_instruction_that_is_not_understood_ends_what_is_known(strange: str) -> None:
    assert set(places(f"{strange} 90 c3")) == {0}


def test_a_frame_pointer_that_is_changed_and_was_not_saved_ends_it_too() -> None:
    """mov %rdi, %rbp; nop; ret"""
    assert set(places("4889fd 90 c3")) == {0}


def test_more_code_than_is_looked_through_has_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_frames, "MAX_INSTRUCTIONS", 3)
    with pytest.raises(TooMuch):
        frames("90 90 90 90 c3")


# --- compilers say the same ---


def table_of(path: Path) -> tuple[ObjectRows, int]:
    table = read_table(path)
    assert table
    return table.rows, table.layout.base


def in_code(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Known]:
    """The frames of all code of a library, without a look at what describes it."""
    monkeypatch.setattr(code_frames, "MAX_INSTRUCTIONS", 1 << 20)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        segments = [each for each in read_facts(descriptor).segments if each.executable]
        code = [(each.address, each.address + each.size) for each in segments]
        yield from frames_of(descriptor, functions_by_address(descriptor), code).known()
    finally:
        os.close(descriptor)


def agree(rule: Rule, frame: Frame) -> bool:
    """False where the two contradict each other."""
    own = frame.stack if rule.kind is RuleKind.SP else frame.pointer
    if own is not None and own != rule.cfa:
        return False
    if frame.is_callers:
        return not (rule.fp and frame.saved) or -rule.fp == frame.saved
    return -rule.fp == frame.saved


def linkage_tables(path: Path) -> Intervals:
    """What the text says of them is no more than a part: the rest are expressions."""
    with path.open("rb") as stream:
        sections = [each for each in ELFFile(stream).iter_sections() if each.name.startswith(".plt")]
        return Intervals((each["sh_addr"], each["sh_addr"] + each["sh_size"]) for each in sections)


# Functions of glibc's for large numbers, in assembler: they push, and their description says nothing of it.
MOST_UNTRUE = 8


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: path.name)
def test_no_row_contradicts_the_call_frame_information(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, base = table_of(path)
    addresses, linkage = [address for address, _ in rows], linkage_tables(path)
    known = [each for each in in_code(path, monkeypatch) if each.start not in linkage]
    both, contradicted, untrue = 0, dict[Known, int](), set[int]()
    for each, following in pairwise(known):
        rule, row = rows.find(each.start - base), bisect_right(addresses, each.start - base)
        if rule.kind not in (RuleKind.SP, RuleKind.FP):
            continue
        both += 1
        if not agree(rule, each.frame):
            contradicted[each] = row
        moved = each.end == following.start and each.frame.stack != following.frame.stack
        if moved and rule.kind is RuleKind.SP and row == bisect_right(addresses, following.start - base):
            untrue.add(row)
    assert both > 10_000
    assert len(untrue) <= MOST_UNTRUE
    assert [(hex(each.start), each.frame) for each, row in contradicted.items() if row not in untrue] == []
    assert sum(each.end - each.start for each in known) > LEAST_SHARE * code_bytes(path)


# Of the code: what only a jump through a table or a pointer in the data leads to is not found.
LEAST_SHARE = 0.5


def code_bytes(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(each["sh_size"] for each in ELFFile(stream).iter_sections() if each.name == ".text")


# --- which files it is done for ---


@pytest.mark.skipif(not MUSL.exists(), reason="apt-get install musl-tools")
def test_musl_has_rows_for_its_functions() -> None:
    """GIVEN musl without any description THEN most of its code has rows, and code without them ends a stack."""
    rows, base = table_of(MUSL)
    descriptor = os.open(MUSL, os.O_RDONLY)
    try:
        symbols = {each.name: each.address for each in functions(descriptor, ".dynsym")}
    finally:
        os.close(descriptor)
    for name in ("strdup", "vasprintf", "fopen", "getline", "setenv", "scandir", "getaddrinfo"):
        assert rows.find(symbols[name] - base) == Rule(RuleKind.SP, cfa=8, ra=-8), name
    assert len(rows) > 10_000


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: path.name)
def test_a_library_with_call_frame_information_is_not_looked_through(path: Path) -> None:
    text = f"STACK CFI INIT 0 {path.stat().st_size:x} .cfa: $rsp 8 + .ra: .cfa -8 + ^".encode()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert rows_of_code(descriptor, text) == b""
    finally:
        os.close(descriptor)
