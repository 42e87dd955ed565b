"""Which processes belong together: a process and what it started, or all of one container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from diagnosis.target.process import PROC, Process
from diagnosis.target.procfs import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    Members = Callable[[], Collection[int]]


def family_of(process: Process) -> Members:
    """The process and all that it started, as they are whenever this is asked."""
    return lambda: {process.pid, *process.descendants()}


def own_family(proc: Path = PROC) -> Collection[int]:
    """This process and those that it started, as the parser of other processes' files: none is to be looked at."""
    return family_of(Process(os.getpid(), proc))()


def container_of(process: Process, proc: Path = PROC) -> Members:
    """Every process of the control group that a process is in, and of the groups below: a container has its own.

    Processes that are alone in the root group have none in common.
    """
    groups = _groups(proc / str(process.pid))
    roots = {group for group in groups if group.rpartition(":")[2] != "/"}

    def members() -> Collection[int]:
        found = {process.pid}
        for entry in proc.iterdir():
            if entry.name.isdecimal() and roots:
                own = _groups(entry)
                if any(group == root or group.startswith(f"{root}/") for group in own for root in roots):
                    found.add(int(entry.name))
        return found

    return members


def _groups(folder: Path) -> tuple[str, ...]:
    """The lines of a process's cgroup file: one for each hierarchy of version 1, one alone for version 2."""
    try:
        # Not by splitlines: a group's name can hold the other characters that it takes for the end of a line.
        return tuple(filter(None, read_text(folder / "cgroup").split("\n")))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ()
