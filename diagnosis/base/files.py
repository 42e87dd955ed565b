"""Files that others may have written: what is read of them has a limit, and what is no file is not waited for.

And how many files may be open at a time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
from typing import TYPE_CHECKING

from diagnosis.base.units import format_size

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["allow_descriptors", "find_beneath", "read_regular"]


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file.

    A pipe would be waited for, and a device has no end: neither is read.

    Args:
        path: of the file. Links are followed.
        limit: in bytes.

    Raises:
        OSError: it cannot be opened or read.
        ValueError: it is no regular file, or larger than the limit.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is no regular file")
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it is larger than {format_size(limit)}")
    return data


def find_beneath(folder: int, path: str) -> int:
    """What lies at a path below an open folder, as a descriptor without access. No link is followed, and no way up.

    Raises:
        OSError: there is no such thing.
    """
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        raise OSError(errno.EXDEV, "the way leads up")
    found = os.dup(folder)
    try:
        for part in parts:
            further = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=found)
            os.close(found)
            found = further
    except BaseException:
        os.close(found)
        raise
    return found


def allow_descriptors() -> None:
    """Let this process, and what it starts from now on, open as many files as the hard limit says.

    Each process of a traced group takes some 35 descriptors: the 1,024 of a shell are enough for fewer than thirty.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # fs.nr_open was set below the hard limit meanwhile
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
