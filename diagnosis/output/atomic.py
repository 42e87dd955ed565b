"""A file is there whole, or as it was before."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# What a new file may be, less what the user's umask takes away.
NEW_FILE = 0o666


def write_atomically(path: Path, text: str) -> None:
    """Write a text file, in UTF-8, by putting a finished one in its place. Its mode and its owner stay.

    What is no file of a folder (a pipe, a terminal, /dev/stdout) cannot be replaced, and is written to as it is.

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    # A link stays one: the file that it leads to is replaced.
    real = path.resolve()
    try:
        before = real.stat()
    except FileNotFoundError:
        before = None
    if before and not stat.S_ISREG(before.st_mode):
        real.write_text(text, encoding="utf-8")
        return
    descriptor, name = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name[:100]}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if before:
                # Only root can give a file to somebody else: for others, it is their own from here on.
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode) if before else NEW_FILE & ~_umask())
            file.write(text)
        os.replace(name, real)  # noqa: PTH105 - one name in, one name out
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108
        raise


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
