"""A file that is written whole: its mode, its link, a device, and what is left of a failure."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from diagnosis.output.atomic import try_writing, write_atomically


def test_a_file_is_replaced_whole_and_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    file, link = tmp_path / "report.html", tmp_path / "link.html"
    file.write_text("before")
    file.chmod(0o640)
    link.symlink_to(file)
    with file.open() as opened:
        write_atomically(link, "after")
        assert opened.read() == "before"
    assert link.is_symlink()
    assert file.read_text() == "after"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert sorted(tmp_path.iterdir()) == [link, file]


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_atomically(tmp_path / "report.html", "text")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) == 0o640


def test_what_cannot_be_written_leaves_the_file_and_the_folder_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(file, "\ud800")
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_device_is_written_to_and_stays_one() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        write_atomically(Path("/dev/full"), "text")
    write_atomically(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()


def test_what_is_tried_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text("before")
    try_writing(file)
    try_writing(tmp_path / "new.html")
    try_writing(Path("/dev/null"))
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_text() == "before"


def test_a_pipe_that_was_tried_is_not_at_its_end_for_its_reader(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="No such device or address"):
        try_writing(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        try_writing(pipe)
        with pytest.raises(BlockingIOError):  # at the end, it would be no bytes
            os.read(reader, 1)
        write_atomically(pipe, "text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)
