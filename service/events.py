"""One JSON line on standard output for each event worth a line, and one line on standard error for what ends a program.

Neither ever fails: a service does not end because the one who reads its log has.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
from typing import Final

__all__ = ["emit", "open_standard_files", "report_error"]

STANDARD_OUTPUT: Final = 1
STANDARD_ERROR: Final = 2


def open_standard_files() -> None:
    """Open /dev/null in the place of each of descriptors 0, 1 and 2 that is closed.

    The next file or connection that is opened would have the number, and the events would be written into it.
    """
    for file in (0, STANDARD_OUTPUT, STANDARD_ERROR):
        try:
            os.fstat(file)
        except OSError:
            with contextlib.suppress(OSError):  # /dev may be missing, too
                os.open(os.devnull, os.O_RDWR)  # the lowest free number, which this is


def emit(event: str, **fields: object) -> None:
    """Write one event.

    The write goes past Python's buffer, so that a reader at the other end of a pipe has the line at once, and so that
    a reader who has gone leaves nothing behind for the interpreter to fail on at exit.
    """
    _write(STANDARD_OUTPUT, json.dumps({"event": event, **fields}))


def report_error(program: str, error: Exception) -> None:
    """Write why a program ends."""
    _write(STANDARD_ERROR, f"{program}: {error}")


def _write(file: int, line: str) -> None:
    # OSError: the reader has gone, the disk is full, or the file is closed. A full pipe would not fail but wait,
    # for as long as it is not read.
    with contextlib.suppress(OSError):
        writable = select.poll()
        writable.register(file, select.POLLOUT)
        if writable.poll(0):
            os.write(file, f"{line}\n".encode())
