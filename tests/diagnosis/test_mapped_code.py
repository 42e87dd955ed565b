from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from diagnosis.target.mapped_code import MappedCode, SeenCode
from diagnosis.target.mapping import Mapping

PAGE = 4096
BASE = 0x7F0000000000


def code(page: int, pages: int = 1) -> Mapping:
    start = BASE + page * PAGE
    return Mapping(start, start + pages * PAGE, "r-xp", 0, "00:00", 0, "")


def test_code_that_was_mapped_is_known_by_its_first_and_its_last_byte() -> None:
    seen = SeenCode()
    seen.add([code(0), code(4, 2)])
    seen.add([code(2)])
    assert [page for page in range(-1, 8) if seen.holds(BASE + page * PAGE)] == [0, 2, 4, 5]
    assert [page for page in range(-1, 8) if seen.holds(BASE + page * PAGE + PAGE - 1)] == [0, 2, 4, 5]
    assert len(seen) == 3


def test_code_that_is_mapped_anew_again_and_again_stays_one_range() -> None:
    seen = SeenCode()
    for number in range(1000):
        seen.add([code(number % 7, 1 + number % (7 - number % 7))])
    assert len(seen) == 1
    assert seen.holds(BASE + 7 * PAGE - 1)
    assert not seen.holds(BASE + 7 * PAGE)


def test_a_range_within_another_one_takes_nothing_from_it() -> None:
    seen = SeenCode()
    seen.add([code(0, 7)])
    seen.add([code(2)])
    assert len(seen) == 1
    assert seen.holds(BASE + 6 * PAGE)


def mapping(start: int, end: int, path: str, inode: int) -> Mapping:
    return Mapping(start, end, "r-xp", 0, "fd:01", inode, path)


def plugin(name: str, inode: int) -> Mapping:
    return mapping(0x1000, 0x3000, name, inode)


def test_what_lay_at_an_address_before_is_told_where_it_was_another_file() -> None:
    """A library that is unloaded leaves its addresses to the next; generated code is mapped anew all the time."""
    moments = [
        [plugin("/lib/one.so", 1), mapping(0x8000, 0x9000, "", 0)],
        [plugin("/lib/other.so", 2), mapping(0x8000, 0xA000, "", 0)],
        [mapping(0x1000, 0x2000, "/lib/other.so", 2)],
    ]
    process: Any = SimpleNamespace(code_maps=lambda: moments.pop(0))
    code = MappedCode(process)
    seen = []
    while moments:
        code.refresh()
        seen.append((code.others(0x1800), code.others(0x8800)))
    assert seen == [((), ()), (("one.so",), ()), (("one.so",), ())]
