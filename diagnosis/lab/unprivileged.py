"""Run a command of the lab as an unprivileged user, so that only the tracer is root.

``python -m diagnosis.lab.unprivileged PARENT UID GID FOLDER -- COMMAND...`` drops to the user and becomes the command.
A checkout in a private home (/root is closed to everybody else) stays readable for it: in a mount namespace of its own
the closed folder is covered by an empty one, in which only the checkout and the Python that runs it appear.

The command ends when the process that started it, PARENT, ends, however that happens.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CLONE_NEWNS = 0x20000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38

NOBODY = "nobody"


@dataclass(frozen=True)
class User:
    """The user that a command runs as."""

    name: str
    uid: int
    gid: int


def choose_user(environ: Mapping[str, str], euid: int) -> User:
    """The invoking user: who called sudo, or whoever runs this; ``nobody`` where that is root.

    Raises:
        LabError: the machine has no such user.
    """
    try:
        invoking = int(environ.get("SUDO_UID", "0")) if euid == 0 else euid
        entry = pwd.getpwuid(invoking) if invoking else pwd.getpwnam(NOBODY)
    except (KeyError, ValueError) as error:
        raise LabError(
            "there is no unprivileged user to run the service as", "call this with sudo from a user's account"
        ) from error
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid)


def command_as(user: User, folder: Path, command: Sequence[str]) -> list[str]:
    """The command line that runs ``command`` in ``folder`` as ``user``."""
    if os.geteuid() == user.uid:
        return list(command)
    launcher = [sys.executable, "-P", "-m", "diagnosis.lab.unprivileged"]
    return [*launcher, str(os.getpid()), str(user.uid), str(user.gid), str(folder), "--", *command]


def closed_ancestors(paths: Iterable[Path], uid: int) -> dict[Path, list[Path]]:
    """The topmost folders above ``paths`` that the user may not enter, each with the paths below it."""
    closed: dict[Path, list[Path]] = {}
    for path in paths:
        for ancestor in reversed(path.parents):
            status = ancestor.stat()
            needed = stat.S_IXUSR if status.st_uid == uid else stat.S_IXOTH
            if not status.st_mode & needed:
                closed.setdefault(ancestor, []).append(path)
                break
    return closed


def _call(what: str, result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _reveal(closed: Mapping[Path, Sequence[Path]]) -> None:
    """Cover each closed folder with an empty one that holds nothing but the given paths, for this process alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    _call("unshare", libc.unshare(CLONE_NEWNS))
    _call("mount --make-rprivate /", libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    umask = os.umask(0o022)  # root's own umask may deny other users the folders that lead to the paths
    for folder, paths in closed.items():
        # Opened first: once it is covered, the paths cannot be named any more.
        opened = [(path, os.open(path, os.O_PATH)) for path in dict.fromkeys(paths)]
        _call(f"mount {folder}", libc.mount(b"lab", bytes(folder), b"tmpfs", 0, b"mode=0755,size=1m"))
        for path, descriptor in opened:
            if not path.exists():  # it does where it lies below another of the paths
                path.mkdir(parents=True)
                source = f"/proc/self/fd/{descriptor}".encode()
                _call(f"mount --bind {path}", libc.mount(source, bytes(path), None, MS_BIND | MS_REC, None))
            os.close(descriptor)
    os.umask(umask)


def _drop(parent: int, uid: int, gid: int) -> None:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    libc = ctypes.CDLL(None, use_errno=True)
    _call("no_new_privs", libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    # After the change of user, which clears it.
    _call("parent death signal", libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:  # it ended before the line above: the signal would never come
        sys.exit("the process that started this has ended")


def main(arguments: Sequence[str]) -> None:
    """Become the command, as the user."""
    parent, uid, gid, folder, separator, *command = arguments
    if separator != "--" or not command:
        sys.exit("usage: python -m diagnosis.lab.unprivileged PARENT UID GID FOLDER -- COMMAND...")
    needed = sorted({Path(folder), Path(sys.prefix), Path(sys.base_prefix)})
    try:
        closed = closed_ancestors(needed, int(uid))
        if closed:
            _reveal(closed)
        os.chdir(folder)
        _drop(int(parent), int(uid), int(gid))
    except OSError as error:
        sys.exit(f"cannot run as uid {uid}: {error}: move the checkout to a folder that every user can enter")
    for path in needed:
        if not os.access(path, os.R_OK | os.X_OK):
            sys.exit(f"uid {uid} cannot read {path}: chmod -R o+rX {path}")
    os.execv(command[0], command)  # noqa: S606 - the command is the lab's own


if __name__ == "__main__":
    main(sys.argv[1:])
