"""`make install` ends with a link on the PATH, or with the line that makes it and a failure."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

LINK = Path(__file__).parents[2] / "scripts" / "link"


def link(command: Path, folder: Path) -> tuple[int, str, str]:
    done = subprocess.run([LINK, command, folder], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "bin"
    assert link(Path("/x/tool"), folder) == (0, f"{folder}/tool -> /x/tool\n", "")
    assert (folder / "tool").readlink() == Path("/x/tool")


@pytest.mark.parametrize("is_there", [True, False])
def test_where_nothing_was_installed_it_fails_with_the_line_to_type(tmp_path: Path, is_there: bool) -> None:
    above = Path("/proc/self") if os.geteuid() == 0 else tmp_path
    folder = above if is_there else above / "bin"
    above.chmod(0o500) if os.geteuid() else None
    status, out, err = link(Path("/x/tool"), folder)
    above.chmod(0o700) if os.geteuid() else None
    made = "" if is_there else f"sudo mkdir -p {folder} && "
    assert (status, out) == (1, "")
    assert err == f"to have it on the PATH, for sudo too: {made}sudo ln -sfn /x/tool {folder}/tool\n"
