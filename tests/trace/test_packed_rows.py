"""Unwind rows as bytes, of a process that is not trusted: the same rows, or an error."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from heap_trace import TraceError
from heap_trace.unwind import Code, ObjectRows, Rule, RuleKind

if TYPE_CHECKING:
    from collections.abc import Sequence

NONE = Rule(RuleKind.NONE)
PUSHES = b"STACK CFI INIT 1000 40 .cfa: $rsp 8 + .ra: .cfa -8 + ^\nSTACK CFI 1001 .cfa: $rsp 16 + $rbp: .cfa -16 + ^\n"


def test_rows_of_another_process_are_the_same_rows() -> None:
    rows = ObjectRows(PUSHES, [Code(0x1010, 0x1018, RuleKind.SIGNAL)])
    assert list(ObjectRows.unpack(rows.pack(), len(rows))) == list(rows)


def packed(rows: Sequence[tuple[int, int]], rules: Sequence[tuple[int, int, int, int]]) -> bytes:
    return b"".join(struct.pack("=II", *row) for row in rows) + b"".join(struct.pack("=4i", *rule) for rule in rules)


NO_RULE = (0, 0, 0, 0)
BY_SP = (1, 16, -8, 0)
ROWS = [(0, 0), (0x1000, 1), (0x1040, 0)]


def test_the_bytes_are_rows_and_then_their_rules() -> None:
    assert list(ObjectRows.unpack(packed(ROWS, [NO_RULE, BY_SP]), 3)) == [
        (0, NONE),
        (0x1000, Rule(RuleKind.SP, cfa=16, ra=-8)),
        (0x1040, NONE),
    ]


@pytest.mark.parametrize(
    ("rows", "rules", "count"),
    [
        pytest.param([], [], 0, id="nothing"),
        pytest.param(ROWS, [], 3, id="no rules"),
        pytest.param(ROWS, [NO_RULE, BY_SP], 0, id="no rows"),
        pytest.param(ROWS, [NO_RULE, BY_SP], 4, id="half a rule"),
        pytest.param(ROWS, [NO_RULE, BY_SP], 1 << 61, id="more rows than bytes"),
        pytest.param(ROWS, [NO_RULE, BY_SP], (1 << 63) - 1, id="a size that is negative"),
        pytest.param([(4, 0), *ROWS[1:]], [NO_RULE, BY_SP], 3, id="first row not at 0"),
        pytest.param([ROWS[0], ROWS[2], ROWS[1]], [NO_RULE, BY_SP], 3, id="not in order"),
        pytest.param([ROWS[0], ROWS[1], (0x1000, 0)], [NO_RULE, BY_SP], 3, id="twice one address"),
        pytest.param([ROWS[0], (0x1000, 2), ROWS[2]], [NO_RULE, BY_SP], 3, id="no such rule"),
        pytest.param(ROWS[:2], [NO_RULE, BY_SP], 2, id="code without an end"),
        pytest.param(ROWS, [BY_SP, BY_SP], 3, id="a first rule that is one"),
        pytest.param(ROWS, [NO_RULE, (9, 0, 0, 0)], 3, id="no such kind"),
        pytest.param(ROWS, [NO_RULE, (-1, 0, 0, 0)], 3, id="a negative kind"),
        pytest.param(ROWS, [NO_RULE] * 65537, 3, id="more rules than can be numbered"),
    ],
)
def test_rows_that_no_table_can_hold_are_refused(
    rows: Sequence[tuple[int, int]], rules: Sequence[tuple[int, int, int, int]], count: int
) -> None:
    with pytest.raises(TraceError, match="these are no unwind rows"):
        ObjectRows.unpack(packed(rows, rules), count)
