"""One process's or thread's folder below /proc, file by file; and its end, by a pidfd."""

from __future__ import annotations

import os
import select
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# A flag of a thread that ends: include/linux/sched.h.
PF_EXITING = 4

# An exec is waited for this long. It takes microseconds, and longer where the machine is busy.
EXEC_SECONDS = 1.0


class ProcessEnd:
    """A process's end, by a pidfd: whatever has its number afterwards is another process."""

    def __init__(self, pid: int) -> None:
        self._descriptor = -1
        try:
            self._descriptor = os.pidfd_open(pid)
        except (OSError, OverflowError):  # it has ended, is a thread, cannot be; or the kernel is older than 5.3
            return
        weakref.finalize(self, os.close, self._descriptor)

    @property
    def known(self) -> bool:
        """False where only /proc can tell."""
        return self._descriptor >= 0

    def came(self) -> bool:
        """True when its last thread has ended."""
        poll = select.poll()  # not kept: one cannot be asked by two threads
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(0))


def read_text(path: Path) -> str:
    """One of a process's files. The names and paths in it are whatever bytes the process chose."""
    return os.fsdecode(path.read_bytes())


def stat_of(folder: Path) -> list[str]:
    """The fields of a process's or thread's stat after the name in parentheses, which may hold anything."""
    try:
        return read_text(folder / "stat").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def runs(folder: Path) -> bool:
    """True for a process or thread that is there, and more than an entry that waits to be reaped."""
    fields = stat_of(folder)
    return bool(fields) and fields[0] not in "ZX"


def program_of(folder: Path) -> tuple[str, ...]:
    """Where code and stack of a thread's program begin; empty where it has ended or given up its memory."""
    until = time.monotonic() + EXEC_SECONDS
    while (fields := stat_of(folder)) and fields[0] not in "ZX":
        if fields[25] != "0":
            return fields[23], fields[25]
        # In the middle of an exec there is no stack yet; on the way to an end there is none any more.
        if int(fields[6]) & PF_EXITING or time.monotonic() > until:
            break
        time.sleep(0.001)
    return ()


def status_of(folder: Path) -> dict[str, str]:
    """A process's or thread's status, by the names of its lines; empty when it has ended."""
    try:
        lines = read_text(folder / "status").split("\n")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def children_of(folder: Path) -> tuple[int, ...]:
    """The processes that the threads of a process started."""
    found: list[int] = []
    for path in folder.glob("task/*/children"):
        try:
            found += map(int, path.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has ended
    return tuple(sorted(found))
