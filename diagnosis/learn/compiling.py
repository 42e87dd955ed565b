"""Compiles what a learner wrote, as the user that runs it.

A source can have the compiler put any file that it may read into the program, which hands it to whoever runs that.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.lab.child import PROJECT
from diagnosis.lab.unprivileged import command_as

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from diagnosis.lab.unprivileged import User

__all__ = ["compile_in", "hand_over"]

COMPILE_SECONDS = 120.0


def hand_over(folder: Path, user: User) -> None:
    """Give a new folder of root's, and all that is in it, to the user that compiles in it."""
    if os.geteuid() != 0:
        return
    folder.parent.chmod(0o755)
    # The folder last: until then nobody else can put anything into it.
    for path in (*sorted(folder.rglob("*"), reverse=True), folder):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.chown(path, user.uid, user.gid, follow_symlinks=False)


def compile_in(
    folder: Path, command: Sequence[str], user: User | None, packages: str
) -> subprocess.CompletedProcess[str]:
    """Run a compiler.

    Args:
        folder: where it runs.
        command: the compiler and its arguments.
        user: the user that it runs as; None for who runs this.
        packages: of Debian, that have it.

    Returns: its status, and what it printed.

    Raises:
        LabError: it is not installed, or did not end in time.
    """
    environ = dict(os.environ)
    if user and user.uid != os.geteuid():
        program = shutil.which(command[0])
        if program is None:
            raise LabError(f"{command[0]} is not installed", f"sudo apt-get install {packages}")
        command = command_as(user, folder, [program, *command[1:]])
        # What root's environment holds is not for the user's processes. PYTHONPATH: for the launcher.
        kept = {name: value for name, value in environ.items() if name in {"CC", "TMPDIR"}}
        environ = {"PATH": environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "PYTHONPATH": str(PROJECT), **kept}
    try:
        with subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            umask=0o022,  # whatever root's is: the service may be another user's
            start_new_session=True,  # it starts further programs, which end with it
        ) as process:
            try:
                out, err = process.communicate(timeout=COMPILE_SECONDS)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed", f"sudo apt-get install {packages}") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"the compiler did not end in {COMPILE_SECONDS:g} s", "try it again") from error
    return subprocess.CompletedProcess(command, process.returncode, out, err)
