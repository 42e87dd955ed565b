"""Rows of unwind tables: from the text of call frame information, and as a walk finds them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from elftools.common.exceptions import DWARFError
from elftools.dwarf.callframe import FDE, RegisterRule
from elftools.elf.elffile import ELFFile
from heap_trace.unwind import Code, Module, ObjectRows, Rule, RuleKind, UnwindTables

from diagnosis.target.parser.facts import Segment, UnwindFacts
from diagnosis.target.parser.unwind_rows import ENTRY_BYTES, make_rows
from diagnosis.target.unwinding import read_table
from tests.trace.call_frames import NONE, PUSHES, ROOM, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

RBP, RSP, RETURN_ADDRESS = 6, 7, 16
KINDS = {RSP: RuleKind.SP, RBP: RuleKind.FP}

LIBRARIES = ("libc.so.6", "libstdc++.so.6", "libsqlite3.so.0", "libz.so.1", "ld-linux-x86-64.so.2")
PROGRAMS = ("/usr/bin/python3", "/usr/bin/git", "/usr/bin/sqlite3")
# Of 1,000 rows at most so many cannot be told from the text: an expression in it is left out.
EXPRESSIONS_PER_MILLE = 2


def _objects() -> Iterator[Path]:
    folders = [path for path in Path("/usr/lib").glob("*-linux-gnu") if (path / "libc.so.6").exists()]
    for name in LIBRARIES:
        yield from (path.resolve() for folder in folders if (path := folder / name).exists())
    yield from (path.resolve() for name in PROGRAMS if (path := Path(name)).exists())


OBJECTS = tuple(_objects())


# --- the text ---


def test_each_row_holds_until_the_next() -> None:
    rows = ObjectRows(PUSHES)

    assert rows.find(0xFFF) == NONE
    assert rows.find(0x1000) == Rule(RuleKind.SP, cfa=8, ra=-8)
    assert rows.find(0x1003) == Rule(RuleKind.SP, cfa=16, ra=-8, fp=-16)
    assert rows.find(0x103E) == Rule(RuleKind.FP, cfa=16, ra=-8, fp=-16)


def test_a_frame_pointer_that_was_popped_is_not_read_again() -> None:
    """The text never says that a rule has gone: its slot is below the stack pointer then."""
    assert ObjectRows(PUSHES).find(0x103F) == Rule(RuleKind.SP, cfa=8, ra=-8)


def test_padding_between_functions_takes_no_row_and_a_wider_gap_does() -> None:
    second = "INIT {:x} 10 .cfa: $rsp 24 + .ra: .cfa -8 + ^"
    first = "INIT 1000 10 .cfa: $rsp 8 + .ra: .cfa -8 + ^"

    assert ObjectRows(text(first, second.format(0x101F))).find(0x1010).kind is RuleKind.SP
    assert ObjectRows(text(first, second.format(0x1020))).find(0x1010) == NONE


def test_without_a_return_address_a_thread_starts() -> None:
    assert ObjectRows(text("INIT 1000 10 .cfa: $rsp 8 +")).find(0x1000) == Rule(RuleKind.START)


@pytest.mark.parametrize("rules", [".cfa: $rax 8 + .ra: .cfa -8 + ^", ".cfa: $rsp 8 + .ra: $rdx", ".ra: .cfa -8 + ^"])
def test_what_is_no_offset_from_one_of_two_registers_is_no_rule(rules: str) -> None:
    assert ObjectRows(text(f"INIT 1000 10 {rules}")).find(0x1000) == Rule(RuleKind.OTHER)


def test_of_two_descriptions_of_one_function_the_later_one_holds() -> None:
    rows = ObjectRows(
        text("INIT 1000 10 .cfa: $rsp 8 + .ra: .cfa -8 + ^", "INIT 1000 10 .cfa: $rsp 16 + .ra: .cfa -8 + ^")
    )

    assert rows.find(0x1008) == Rule(RuleKind.SP, cfa=16, ra=-8)


def test_a_part_of_a_function_elsewhere_in_the_text_is_put_where_it_is() -> None:
    rows = ObjectRows(
        text("INIT 2000 10 .cfa: $rsp 32 + .ra: .cfa -8 + ^", "INIT 1000 10 .cfa: $rsp 8 + .ra: .cfa -8 + ^")
    )

    assert [address for address, _ in rows] == [0, 0x1000, 0x1010, 0x2000, 0x2010]


def test_arm64s_registers() -> None:
    rows = ObjectRows(
        text("INIT 1000 20 .cfa: sp 0 + .ra: x30", "1008 .cfa: sp 32 + .ra: .cfa -24 + ^ x29: .cfa -32 + ^")
    )

    assert rows.find(0x1004) == Rule(RuleKind.SP)
    assert rows.find(0x1010) == Rule(RuleKind.SP, cfa=32, ra=-24, fp=-32)


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"STACK CFI",
        b"STACK CFI ",
        b"STACK CFI INIT",
        b"STACK CFI INIT zz 10 .cfa: $rsp 8 +",
        b"STACK CFI 1000 .cfa: $rsp 8 +",
        b"STACK CFI INIT 1000 10",
        b"STACK CFI INIT 1000 10 :",
        b"STACK CFI INIT 1000 10 .cfa: $rsp 99999999999999999999 + .ra: .cfa - + ^",
        b"STACK CFI INIT 1000 10 .cfa: $rsp 8 + + + + + + + + .ra:",
        b"STACK CFI INIT 1000 0 .cfa: $rsp 8 + .ra: .cfa -8 + ^",
        b"STACK CFI INIT 1000 10 .cfa: $rsp 8 +\nSTACK CFI 900 .cfa: $rsp 16 +\nSTACK CFI 5000 .cfa: $rsp 16 +",
        b"\xff\x00STACK CFI INIT\n" * 100,
    ],
)
def test_broken_text_gives_no_rows_outside_its_functions(hostile: bytes) -> None:
    rows = ObjectRows(hostile)

    assert {address for address, rule in rows if rule != NONE} <= {0x1000}


def test_more_code_than_an_address_can_name_is_refused() -> None:
    with pytest.raises(OSError, match="call frame information"):
        ObjectRows(text("INIT ffffff00 1000 .cfa: $rsp 8 + .ra: .cfa -8 + ^"))


# --- code that the text says nothing of ---


def test_code_replaces_rows_and_ends_where_it_ends() -> None:
    rows = ObjectRows(PUSHES, [Code(0x1010, 0x1018, RuleKind.SIGNAL)])

    assert rows.find(0x100F).kind is RuleKind.FP
    assert rows.find(0x1010) == rows.find(0x1017) == Rule(RuleKind.SIGNAL)
    assert rows.find(0x1018).kind is RuleKind.FP


def test_code_that_fills_a_gap_leaves_rows_alone() -> None:
    fills = [Code(0x1010, 0x1040, RuleKind.START, fills_gap=True), Code(0xFF0, 0x1010, RuleKind.START, fills_gap=True)]
    rows = ObjectRows(PUSHES, fills)

    assert rows.find(0x1010).kind is RuleKind.FP
    assert rows.find(0xFF0) == Rule(RuleKind.START)
    assert rows.find(0x1000) == Rule(RuleKind.SP, cfa=8, ra=-8)


def test_code_that_keeps_frame_pointers_fills_every_gap() -> None:
    two = PUSHES + b"\n" + text("INIT 2000 10 .cfa: $rsp 24 + .ra: .cfa -8 + ^")
    rows = ObjectRows(two, [Code(0x900, 0x3000, RuleKind.FP, fills_gap=True)])
    assert {rows.find(at) for at in (0x900, 0xFFF, 0x1800, 0x2FFF)} == {Rule(RuleKind.FP, cfa=16, ra=-8, fp=-16)}
    assert [rows.find(at).cfa for at in (0x8FF, 0x1000, 0x2000, 0x3000)] == [0, 8, 24, 0]


def test_of_code_that_overlaps_the_later_one_holds() -> None:
    switches = Code(0x1008, 0x1010, RuleKind.GO_CALLS_C, cfa=40)
    twice = Code(0x1020, 0x1028, RuleKind.FP, cfa=24)
    rows = ObjectRows(PUSHES, [Code(0xFF0, 0x1030, RuleKind.FP), switches, twice])
    by_frame_pointer = Rule(RuleKind.FP, cfa=16, ra=-8, fp=-16)
    assert {rows.find(at) for at in (0xFF0, 0x1007, 0x1010, 0x102F)} == {by_frame_pointer}
    assert rows.find(0x100F) == Rule(RuleKind.GO_CALLS_C, cfa=40)
    assert rows.find(0x1020) == Rule(RuleKind.FP, cfa=24, ra=-8, fp=-16)
    assert rows.find(0x103F) == Rule(RuleKind.SP, cfa=8, ra=-8)


@pytest.mark.parametrize(("entry", "ends"), [(0x401000, 0x1040), (0x402000, 0x2000 + ENTRY_BYTES)])
def test_the_entry_is_a_start_whatever_the_text_says_of_it(entry: int, ends: int) -> None:
    rows = make_rows(PUSHES, UnwindFacts((Segment(0, 0x400000, 0x10000, executable=True),), entry, ()))

    assert rows.find(entry - 0x400000) == rows.find(ends - 1) == Rule(RuleKind.START)
    assert rows.find(ends) == NONE


# --- pyelftools says the same ---


def expected(row: Mapping[Any, Any]) -> Rule | None:
    """The rule of a decoded row; None where it takes an expression."""
    cfa, address, pointer = row["cfa"], row.get(RETURN_ADDRESS), row.get(RBP)
    if address is None or address.type == RegisterRule.UNDEFINED:
        return Rule(RuleKind.START)
    if cfa.expr is not None or cfa.reg not in KINDS or address.type != RegisterRule.OFFSET:
        return None
    fp = 0
    if pointer is not None and pointer.type == RegisterRule.OFFSET:
        fp = pointer.arg
    elif pointer is not None and pointer.type not in (RegisterRule.UNDEFINED, RegisterRule.SAME_VALUE):
        return None
    if KINDS[cfa.reg] is RuleKind.SP and -fp > cfa.offset:
        fp = 0
    return Rule(KINDS[cfa.reg], cfa.offset, address.arg, fp)


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_rows_are_those_that_pyelftools_decodes(path: Path) -> None:
    table = read_table(path)
    assert table

    compared = expressions = undecoded = 0
    with path.open("rb") as stream:
        for entry in ELFFile(stream).get_dwarf_info().EH_CFI_entries():
            if not isinstance(entry, FDE) or entry.cie is None or b"S" in entry.cie.header["augmentation"]:
                continue
            try:
                decoded = entry.get_decoded().table
            except (DWARFError, ValueError):  # DW_CFA_GNU_args_size is not known to it
                undecoded += 1
                continue
            ends = [row["pc"] for row in decoded[1:]] + [entry["initial_location"] + entry["address_range"]]
            for row, end in zip(decoded, ends, strict=True):
                if row["pc"] == end:
                    continue
                compared += 1
                want = expected(row)
                got = table.rows.find(row["pc"] - table.layout.base)
                if want is None:
                    expressions += 1
                elif got.kind is not RuleKind.START or want.kind is RuleKind.START:
                    assert got == want, f"{row['pc']:#x}"

    assert compared > 100
    assert expressions <= max(20, compared * EXPRESSIONS_PER_MILLE // 1000)
    assert undecoded <= max(20, compared // 100)


# --- as a walk finds them ---


@pytest.mark.parametrize("path", OBJECTS[:2], ids=lambda path: path.name)
def test_a_walk_finds_every_row_at_its_first_and_its_last_byte(path: Path) -> None:
    table = read_table(path)
    assert table
    tables = UnwindTables.private(ROOM)
    bias = 0x7F0000000000
    where = tables.add(table.rows)
    tables.set_modules([Module(bias, bias + (1 << 30), bias, where)])

    rows = list(table.rows)
    for (start, rule), (end, _) in itertools.pairwise(rows):
        assert tables.find(bias + start) == tables.find(bias + end - 1) == rule, hex(start)
