from __future__ import annotations

import sys
import unicodedata

import pytest

from diagnosis.base.errors import LabError
from diagnosis.base.text import CUT, safe_lines, safe_text


@pytest.mark.parametrize(
    "text",
    ["", "python -m service", "std::vector<int>::push_back(int const&)", "서비스", "größe", "a\\b", "[b]x[/]"],
)
def test_what_can_be_printed_stays_as_it_is(text: str) -> None:
    assert safe_text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("RIGHT\nRIGHT: forged", "RIGHT\\x0aRIGHT: forged"),
        ("\r\t\x00\x7f", "\\x0d\\x09\\x00\\x7f"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("abc\u202edef\u2066\u200f", "abc\\u202edef\\u2066\\u200f"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("a\u00a0b\u3000c", "a\\xa0b\\u3000c"),
        ("\U000e0041\ufeff\ue000", "\\U000e0041\\ufeff\\ue000"),
        ("\ud800x", "\\ud800x"),
        ("caf\udce9", "caf\\xe9"),
        (b"caf\xe9 \xff\x9b", "caf\\xe9 \\xff\\x9b"),
        ("größe".encode(), "größe"),
    ],
)
def test_what_a_terminal_obeys_or_a_reader_does_not_see_is_shown_by_its_number(text: str | bytes, shown: str) -> None:
    assert safe_text(text) == shown


def test_of_all_of_unicode_only_printable_characters_come_through() -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    shown = safe_text(everything, limit=20_000_000)
    assert shown.isprintable()
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    shown.encode()


@pytest.mark.parametrize("text", ["x" * 200_000, "\x1b" * 200_000, b"\xff" * 200_000, "é" * 200_000])
def test_the_length_is_bounded(text: str | bytes) -> None:
    shown = safe_text(text, limit=100)
    assert len(shown) == 100
    assert shown.endswith(CUT)
    assert len(safe_text(text)) <= 1024


def test_a_text_of_exactly_the_limit_is_not_cut() -> None:
    assert safe_text("x" * 100, limit=100) == "x" * 100


def test_of_several_lines_only_the_line_feeds_stay() -> None:
    assert safe_lines("one\x1b\ntwo\r\n") == "one\\x1b\ntwo\\x0d\n"


def test_an_error_shows_what_it_quotes() -> None:
    error = LabError("/lib/libc.so.6\x1b]0;owned\x07 cannot be read", "mv '\x9b' x")
    assert str(error) == "/lib/libc.so.6\\x1b]0;owned\\x07 cannot be read: mv '\\x9b' x"
    assert error.what.isprintable()
    assert error.remedy.isprintable()
