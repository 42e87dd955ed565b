"""The tables of several objects together: shared rules, modules, room."""

from __future__ import annotations

import pytest
from heap_trace.unwind import Capacity, Ending, Module, ObjectRows, Rule, RuleKind, UnwindTables

from tests.trace.call_frames import NONE, PUSHES, ROOM, text


def test_objects_share_the_tables_and_keep_their_own_rules() -> None:
    tables = UnwindTables.private(ROOM)
    other = ObjectRows(text("INIT 1000 100 .cfa: $rsp 8 + .ra: .cfa -8 + ^", "1080 .cfa: $rsp 4096 +"))

    modules = [
        Module(0x100000, 0x110000, 0x100000, tables.add(ObjectRows(PUSHES))),
        Module(0x200000, 0x210000, 0x200000, tables.add(other)),
        Module(0x50000, 0x60000),
    ]
    tables.set_modules(modules)

    assert tables.find(0x10103E) == Rule(RuleKind.FP, cfa=16, ra=-8, fp=-16)
    assert tables.find(0x20103E) == Rule(RuleKind.SP, cfa=8, ra=-8)
    assert tables.find(0x201090) == Rule(RuleKind.SP, cfa=4096, ra=-8)
    assert tables.find(0x55000) == NONE
    assert tables.find(0x300000) is None


def test_modules_are_replaced_as_a_whole() -> None:
    tables = UnwindTables.private(ROOM)
    where = tables.add(ObjectRows(PUSHES))

    for base in (0x100000, 0x200000, 0x300000):
        tables.set_modules([Module(base, base + 0x10000, base, where)])
        assert tables.find(base + 0x1000) == Rule(RuleKind.SP, cfa=8, ra=-8)
        assert tables.find(base - 0x100000 + 0x1000) is None


def test_a_table_without_room_is_left_out_and_changes_nothing() -> None:
    tables = UnwindTables.private(Capacity(rows=6, chunks=64, rules=16))
    first = tables.add(ObjectRows(PUSHES))
    used = tables.used

    assert tables.add(ObjectRows(PUSHES)) is None
    assert tables.used == used
    tables.set_modules(
        [Module(0x100000, 0x110000, 0x100000, first), Module(0x200000, 0x210000, end_as=Ending.NOT_LOADED)]
    )
    assert tables.find(0x101000) == Rule(RuleKind.SP, cfa=8, ra=-8)


def test_the_room_of_tables_can_be_given_back() -> None:
    tables = UnwindTables.private(Capacity(rows=6, chunks=64, rules=16))
    for _ in range(2):
        tables.set_modules([Module(0x100000, 0x110000, 0x100000, tables.add(ObjectRows(PUSHES)))])
        tables.clear()
        assert (tables.used, tables.find(0x101000)) == (Capacity(0, 0, 0), None)


def test_modules_that_overlap_are_refused() -> None:
    with pytest.raises(OSError, match="not in order"):
        UnwindTables.private(ROOM).set_modules([Module(0x1000, 0x3000), Module(0x2000, 0x4000)])
