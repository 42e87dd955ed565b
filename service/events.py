"""One JSON line on standard output for each event worth a line: the programs here have very few."""

from __future__ import annotations

import contextlib
import json
import os
import sys

__all__ = ["emit"]


def emit(event: str, **fields: object) -> None:
    """Write one event.

    The write goes past Python's buffer, so that a reader at the other end of a pipe has the line at once, and so that
    a reader who has gone leaves nothing behind for the interpreter to fail on at exit.
    """
    line = json.dumps({"event": event, **fields}) + "\n"
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), line.encode())
