"""Files that others may have written: what is read of them has a limit, and what is no file is not waited for."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from diagnosis.base.units import format_size

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_regular"]


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
