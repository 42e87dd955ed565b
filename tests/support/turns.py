"""Who may trace now, of the processes that run tests side by side: many at a time, or one alone."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Files that every process has, to be locked: the gate and the room.
_FILES = (Path(__file__), Path(__file__).parents[1] / "conftest.py")


@contextmanager
def turn(*, alone: bool = False, files: tuple[Path, Path] = _FILES) -> Iterator[None]:
    """Wait until it may begin. Who waits to be alone holds the gate, so that nobody comes in before."""
    gate, room = files
    with ExitStack() as held:
        with ExitStack() as first:
            _lock(first, gate, fcntl.LOCK_EX)
            _lock(held, room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def _lock(stack: ExitStack, path: Path, how: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    fcntl.flock(descriptor, how)
