"""Who comes to a group of processes: told by the kernel at once, and seen in /proc now and then."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from heap_trace import TraceError
from heap_trace.forks import Forks

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

# The kernel tells of forks by the numbers of the machine's first pid namespace (include/linux/proc_ns.h).
_FIRST_NAMESPACE = 0xEFFFFFFC

# The longest time for which an end of a wait is not seen.
_POLL_SECONDS = 0.1


class Arrivals:
    """What the processes of a group start. Close it."""

    def __init__(self) -> None:
        self._forks: Forks | None = None
        self._told: set[int] = set()
        if Path("/proc/self/ns/pid").stat().st_ino == _FIRST_NAMESPACE:
            try:
                self._forks = Forks()
            except TraceError:
                return  # the looks at /proc remain

    def follow(self, pid: int) -> None:
        """Be told of what this process starts, and of what that starts."""
        if self._forks:
            self._forks.follow(pid)

    def take(self) -> set[int]:
        """The processes that were started since the last call. They may have ended."""
        told, self._told = self._told, set()
        return told | set(self._forks.started() if self._forks else ())

    def wait(self, seconds: float, ending: Event, arrived: Callable[[], object]) -> None:
        """Wait so long, or until `ending` is set; call `arrived` whenever there is something to take."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not ending.is_set():
            if not self._forks:
                ending.wait(left)
                continue
            self._told |= set(self._forks.started(min(left, _POLL_SECONDS)))
            if self._told:
                arrived()

    def untold(self) -> int:
        """How many were started of whom nothing is known."""
        return self._forks.untold() if self._forks else 0

    def close(self) -> None:
        """Be told no more."""
        if self._forks:
            self._forks.close()
