"""Whole stacks of the processes that grow, also in software that keeps no frame pointers.

Unwind tables are one process's, and `watch` samples all. So it samples each process that grows once more, by that one's
own tables, from when it is seen to grow. The samples of all say how much a process touched, and its own where.
"""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.faults.growth import GrowthSampler
from diagnosis.target.process import Process
from diagnosis.target.unwinding import ProcessTables

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from diagnosis.faults.growth import FaultWindow, TouchedStack
    from diagnosis.trace.measured import Names


# Each takes the kernel some megabytes for its tables, and the parser up to a second for its files.
MAX_FOLLOWED = 8


class GrowingStacks:
    """Samples processes by their unwind tables, each from when it is followed. Close it.

    Args:
        most: how many processes are followed at most, and no more than `MAX_FOLLOWED`.
        proc: where procfs is mounted.
    """

    def __init__(self, most: int, proc: Path) -> None:
        self._most, self._proc = min(most, MAX_FOLLOWED), proc
        self._followed: dict[int, tuple[GrowthSampler, ProcessTables] | None] = {}
        self._windows: dict[int, FaultWindow] = {}
        self._everything: FaultWindow | None = None
        self._stack = ExitStack()

    def look(self, growing: Iterable[int]) -> None:
        """Follow what grows by now, and keep the tables of the followed as their mappings are."""
        for pid in growing:
            if pid not in self._followed and len(self._followed) < self._most:
                self._followed[pid] = self._follow(pid)
        for _, tables in filter(None, self._followed.values()):
            with contextlib.suppress(LabError):  # it has ended: what was sampled is kept
                tables.refresh()

    def _follow(self, pid: int) -> tuple[GrowthSampler, ProcessTables] | None:
        try:
            tables = ProcessTables(Process(pid, self._proc))
            sampler = GrowthSampler(pid, tables=tables)
        except LabError:
            return None  # it has ended, or the kernel lends no more memory: it is sampled with the others
        self._stack.callback(sampler.close)
        return sampler, tables

    def read(self, everything: FaultWindow) -> None:
        """Keep what was sampled until now, beside the samples of all processes."""
        self._everything = everything
        self._windows = {pid: each[0].read() for pid, each in self._followed.items() if each}

    def close(self) -> None:
        """Stop sampling. What was read stays."""
        self._stack.close()

    def stacks_of(self, pid: int, symbolizer: Names) -> list[TouchedStack]:
        """The stacks of one process that was read, the ones that touched most first.

        They are by frame pointers where it was not followed, or has touched nothing since.
        """
        own = self._windows.get(pid)
        found = own.stacks_of(pid, symbolizer) if own else []
        if not self._everything:
            return found
        if not found:
            return self._everything.stacks_of(pid, symbolizer)
        touched = self._everything.touched_bytes(pid)
        share = touched / sum(stack.touched_bytes for stack in found) if touched else 1.0
        return [
            replace(stack, touched_bytes=stack.touched_bytes * share, error_bytes=stack.error_bytes * share)
            for stack in found
        ]
