"""Files that root writes into a folder that others write into: what they left there leads root nowhere."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from diagnosis.output.atomic import write_atomically
from tests.hostile.running import memleak_lab

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

OTHER = 54_322


@pytest.fixture(autouse=True)
def _no_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """As /tmp is: everybody makes files in it, and removes his own only."""
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(0o1777)
    return path


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_text("root's own")
    return path


def others_link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    os.chown(path, OTHER, OTHER, follow_symlinks=False)
    return path


def test_a_link_of_another_user_s_is_not_followed(shared: Path, precious: Path) -> None:
    for target in (precious, precious.with_name("new"), Path("../precious")):
        link = others_link(shared / f"report-{target.name}-{target.is_absolute()}.html", target)
        with pytest.raises(PermissionError, match="a link of another user's"):
            write_atomically(link, "a report")
    assert precious.read_text() == "root's own"
    assert not precious.with_name("new").exists()


def test_a_folder_that_is_one_is_not_either(shared: Path, precious: Path) -> None:
    folder = others_link(shared / "reports", precious.parent)
    with pytest.raises(PermissionError, match="reports on the way to it is a link of another user's"):
        write_atomically(folder / "precious", "a report")
    assert precious.read_text() == "root's own"


def test_links_of_one_s_own_are_followed_also_those_of_who_called_sudo(
    shared: Path, precious: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shared / "own.html"
    own.symlink_to("../precious")
    write_atomically(own, "first")
    assert precious.read_text() == "first"
    monkeypatch.setenv("SUDO_UID", str(OTHER))
    write_atomically(others_link(shared / "callers.html", precious), "second")
    assert precious.read_text() == "second"


def test_links_in_a_circle_end(shared: Path) -> None:
    one, two = shared / "one", shared / "two"
    one.symlink_to(two)
    two.symlink_to(one)
    with pytest.raises(OSError, match="Too many levels"):
        write_atomically(one, "a report")


def test_a_file_that_another_user_left_there_becomes_roots(shared: Path) -> None:
    """Else the report would be his, to read and to change; as would be a copy that he keeps open."""
    path = shared / "report.html"
    path.write_text("bait")
    path.chmod(0o4777)
    os.chown(path, OTHER, OTHER)
    write_atomically(path, "a report")
    found = path.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode) & 0o4022) == (0, 0)


def test_a_pipe_of_another_user_s_is_not_waited_for(shared: Path) -> None:
    pipe = shared / "report.html"
    os.mkfifo(pipe)
    os.chown(pipe, OTHER, OTHER)
    with pytest.raises(OSError, match="No such device"):
        write_atomically(pipe, "a report")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(PermissionError, match="a pipe of another user's"):
        write_atomically(pipe, "a report")
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_standard_output_that_is_a_pipe_gets_all_of_it() -> None:
    script = (
        "import pathlib; from diagnosis.output.atomic import write_atomically;"
        " write_atomically(pathlib.Path('/dev/stdout'), 'x' * 300_000)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert len(done.stdout) == 300_000


@pytest.mark.ebpf
def test_neither_the_report_nor_the_page_of_a_trace_is_written_through_a_link(shared: Path, precious: Path) -> None:
    link = others_link(shared / "report", precious)
    result = memleak_lab("trace", "--duration", "1s", "--save", link, "--html", link, "--", "sleep", "9")
    assert "a link of another user's" in result.err
    assert precious.read_text() == "root's own"
