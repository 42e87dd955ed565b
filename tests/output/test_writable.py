"""Files that options name: tried before the trace, with the kernel's own reason and a remedy that helps."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from diagnosis.base.errors import LabError
from diagnosis.cli.formats import check_writable


def refusal(**files: Path) -> str:
    with pytest.raises(LabError) as raised:
        check_writable({f"--{name}": path for name, path in files.items()})
    return str(raised.value)


def test_a_folder_that_is_missing_can_be_made(tmp_path: Path) -> None:
    file = tmp_path / "my reports" / "a.json"
    said = f"--save {file}: it cannot be written: No such file or directory"
    assert refusal(save=file) == f"{said}: mkdir -p '{file.parent}', or name another file"


def test_a_folder_that_is_there_is_not_to_be_made() -> None:
    assert refusal(save=Path("/proc/x.json")).endswith("No such file or directory: name another file")


def test_the_reason_is_the_kernel_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("diagnosis.output.atomic._create", refuse)
    file = tmp_path / "a.json"
    assert refusal(html=file) == f"--html {file}: it cannot be written: Read-only file system: name another file"


def test_a_pipe_without_a_reader_is_not_found_out_after_the_trace(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "No such device or address" in refusal(save=tmp_path / "pipe")


@pytest.mark.parametrize("exists", [False, True])
def test_two_options_do_not_write_over_each_other(tmp_path: Path, exists: bool) -> None:
    file, link = tmp_path / "same", tmp_path / "link"
    link.symlink_to(file)
    if exists:
        file.touch()
    assert refusal(save=file, html=link) == f"--save and --html name the same file, {link}: name another file by --html"


def test_a_device_can_be_named_twice_and_nothing_has_to_be_named() -> None:
    check_writable({"--save": Path("/dev/null"), "--html": Path("/dev/null"), "--chart": None})
