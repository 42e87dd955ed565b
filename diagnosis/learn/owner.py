"""The learner's files are the learner's: root reads and writes them with that user's rights, and no more.

Whoever owns a folder can put a link in place of any file or folder below it, at any moment. With the owner's rights
a link leads to nothing that the owner could not read, write or remove himself.
"""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.base.files import read_regular
from diagnosis.base.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Owner", "as_owner", "owner_of", "read_own"]

# Of a user whose number has no name.
NO_GROUP = 65534
# A source that is larger was not written by hand.
MAX_SOURCE_BYTES = 4 * MIB


@dataclass(frozen=True)
class Owner:
    """A user, and the group that is his own: not that of a folder, which can be one that he is no member of."""

    uid: int
    gid: int


def owner_of(folder: Path, environ: Mapping[str, str] = os.environ) -> Owner:
    """Whose files those in a folder are: who called sudo; or else the first user beside root on the way to it.

    Args:
        folder: it need not be there yet.
        environ: where sudo says who called it.

    Raises:
        LabError: everybody can put another folder in its place.
    """
    caller = environ.get("SUDO_UID", "")
    if caller.isdecimal() and int(caller):
        return _owner(int(caller))
    whole = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow the links that are looked at here
    for each in reversed([whole, *whole.parents]):
        try:
            found = each.lstat()
        except OSError:
            break  # what is missing is made by whoever owns what is above it
        if found.st_uid:
            return _owner(found.st_uid)
        if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            raise LabError(f"everybody may replace what is in {each}", "name another folder: --folder DIR")
    return Owner(0, 0)


def _owner(uid: int) -> Owner:
    try:
        return Owner(uid, pwd.getpwuid(uid).pw_gid)
    except KeyError:
        return Owner(uid, NO_GROUP)


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Do what follows with the rights of the folder's owner, where this is root and the folder is another user's."""
    owner = owner_of(folder) if os.geteuid() == 0 else None
    if owner is None or owner.uid == 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(owner.gid)
    os.seteuid(owner.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def read_own(path: Path) -> str:
    """A text file of the learner's.

    Raises:
        LabError: it cannot be read, or is no text.
    """
    try:
        with as_owner(path.parent):
            return read_regular(path, MAX_SOURCE_BYTES).decode()
    except (OSError, ValueError) as error:
        raise LabError(f"{path} cannot be read: {error}", "begin anew: memleak-lab learn --new") from error
