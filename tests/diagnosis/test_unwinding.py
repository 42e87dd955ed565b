"""Which address of an object file a mapping of it begins at."""

from __future__ import annotations

import pytest

from diagnosis.target.parser.facts import Segment
from diagnosis.target.unwinding import PAGE, Layout

# GNU ld begins each segment in a page of the file of its own, lld goes on in the page in which the one before ended.
BY_GNU = Layout((Segment(0, 0, 0x5A0), Segment(0x1000, 0x1000, 0x8F1), Segment(0x2000, 0x2000, 0x400)))
BY_LLD = Layout((Segment(0, 0, 0x133B4), Segment(0x133C0, 0x143C0, 0x3D470), Segment(0x50830, 0x52830, 0x27C8)))


@pytest.mark.parametrize(
    ("layout", "offset", "address"),
    [
        (BY_GNU, 0, 0),
        (BY_GNU, 0x1000, 0x1000),
        (BY_LLD, 0, 0),
        (BY_LLD, 0x13000, 0x14000),  # the page in which what is read ends and code begins
        (BY_LLD, 0x13000 + PAGE, 0x14000 + PAGE),  # the rest of a mapping that was cut
        (BY_LLD, 0x50000, 0x52000),
        (BY_LLD, 0x60000, None),
    ],
)
def test_a_mapping_begins_with_the_page_of_the_later_of_two_segments(
    layout: Layout, offset: int, address: int | None
) -> None:
    assert layout.address_of(offset) == address
