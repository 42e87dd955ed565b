from __future__ import annotations

from diagnosis.target.parser.facts import Segment
from diagnosis.target.unwinding import Layout

# As lld lays a program out: no gap in the file, and each segment a page further on in memory.
LLD = Layout(
    (
        Segment(0, 0, 0x1294C, executable=False),
        Segment(0x12950, 0x13950, 0x3CAD0, executable=True),
        Segment(0x4F420, 0x51420, 0x2650, executable=False),
    )
)
# The same of a small one: all of it is in one page of the file.
ONE_PAGE = Layout(
    (
        Segment(0, 0x200000, 0x500, executable=False),
        Segment(0x500, 0x201500, 0x200, executable=True),
        Segment(0x700, 0x202700, 0x100, executable=False),
    )
)


def test_code_that_begins_in_the_last_page_of_what_is_before_it() -> None:
    assert LLD.address_of(0x12000) == 0x13000
    assert ONE_PAGE.address_of(0) == 0x1000


def test_a_part_of_the_code_is_further_on() -> None:
    assert LLD.address_of(0x20000) == 0x21000


def test_what_is_no_code_has_no_address() -> None:
    assert LLD.address_of(0x50000) is None
