from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from diagnosis.output.source import source_lines
from diagnosis.target.symbols import Frame

if TYPE_CHECKING:
    from pathlib import Path


def frame(path: Path | str, line: int) -> Frame:
    return Frame("f", "m", str(path), line, 0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    path = tmp_path / "shop.c"
    path.write_text("first\n\tsecond\nthird\nfourth")
    return path


def test_the_line_and_its_neighbours_are_shown(source: Path) -> None:
    assert source_lines(frame(source, 2)) == [(1, "first"), (2, "    second"), (3, "third")]
    assert source_lines(frame(source, 1)) == [(1, "first"), (2, "    second")]
    assert source_lines(frame(source, 4)) == [(3, "third"), (4, "fourth")]


@pytest.mark.parametrize("line", [0, 5, 1 << 40])
def test_a_line_that_is_not_there_is_not_shown(source: Path, line: int) -> None:
    assert source_lines(frame(source, line)) == []


def test_a_file_that_others_may_not_read_is_not_shown(source: Path) -> None:
    source.chmod(0o600)
    assert source_lines(frame(source, 2)) == []


def test_a_link_to_what_is_no_source_is_not_shown(source: Path) -> None:
    secret = source.with_name("shadow")
    secret.write_text("root:secret\n")
    link = source.with_name("link.c")
    link.symlink_to(secret)
    assert source_lines(frame(link, 1)) == []
    assert source_lines(frame(secret, 1)) == []


@pytest.mark.parametrize("path", ["", "shop.c", "/nonexistent/shop.c", "/tmp/a\0b.c", "/dev/zero.c"])
def test_what_is_no_file_is_not_shown(path: str) -> None:
    assert source_lines(frame(path, 1)) == []


def test_what_would_move_the_cursor_is_replaced(source: Path) -> None:
    source.write_text("\x1b[2Jgone\x07\n")
    assert source_lines(frame(source, 1))[0] == (1, "\ufffd[2Jgone\ufffd")


def test_what_takes_a_source_s_place_while_it_is_opened_is_not_shown(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIVEN a file that was one when its path was looked at, and is a link or a pipe since."""
    secret = source.with_name("secret.c")
    secret.write_text("secret")
    link, pipe = source.with_name("link.c"), source.with_name("pipe.c")
    link.symlink_to(secret)
    os.mkfifo(pipe)
    monkeypatch.setattr(type(source), "resolve", lambda path, **_: path)
    assert source_lines(frame(link, 1)) == []
    assert source_lines(frame(pipe, 1)) == []
    assert source_lines(frame(secret, 1)) == [(1, "secret")]
