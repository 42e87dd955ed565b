"""Files that others may have written: what is read of them has a limit, and what is no file is not waited for.

And which files are open from the start, and how many may be at a time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
import sys
from typing import TYPE_CHECKING

from diagnosis.base.units import MIB, format_size

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "FEWEST_DESCRIPTORS",
    "allow_descriptors",
    "find_beneath",
    "give_usual_descriptors",
    "open_streams",
    "read_regular",
]

_PIECE = MIB
# As a shell has it: enough for the trace of some processes.
FEWEST_DESCRIPTORS = 1_024
_USUAL_DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)


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
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise ValueError("it is no regular file")
    with os.fdopen(descriptor, "rb") as file:
        # What is asked for is allocated: no more than the file says that it has, and then pieces of what it has grown.
        data = file.read(min(found.st_size, limit) + 1)
        pieces = [data]
        while data and (left := limit + 1 - sum(map(len, pieces))) > 0:
            data = file.read(min(_PIECE, left))
            pieces.append(data)
    data = b"".join(filter(None, pieces))  # a single piece is not copied
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

    Each process of a traced group takes some 35 descriptors: the 1,024 of a shell are enough for fewer than thirty, and
    a hard limit below that is raised where this user may do so, which root may.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 0 <= hard < FEWEST_DESCRIPTORS  # -1 is no limit
    for wanted in (hard, FEWEST_DESCRIPTORS) if few else (hard,):
        with contextlib.suppress(ValueError, OSError):  # fs.nr_open was set below it meanwhile, or it is not allowed
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))


def give_usual_descriptors(pid: int) -> None:
    """Let a process open as many files as this one could when it began: some programs count on it."""
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        resource.prlimit(pid, resource.RLIMIT_NOFILE, _USUAL_DESCRIPTORS)


def open_streams() -> None:
    """Give each standard stream that was closed (``>&-``) the null device: Python has None in its place.

    Else the next file that is opened would get its number, and whatever a child of this process prints.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - open until the end
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
