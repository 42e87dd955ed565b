"""Attaches to processes that share the traced one's memory: what they free is the traced one's as well."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from heap_trace import TraceError

from diagnosis.base.errors import LabError
from diagnosis.target.sharing import share_memory
from diagnosis.trace.attaching import attach_allocator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from heap_trace import HeapTrace

    from diagnosis.target.allocator import Allocator
    from diagnosis.target.process import Process

# No more of the time than this goes into looking: each thread has children of its own.
_MOST_OF_THE_TIME = 0.01


class Sharers:
    """The processes that share a process's memory without being threads of it.

    A session's probes are the kernel's for the threads of one process, and these have to have probes of their own. The
    probes of a pair of programs are for all who run in the memory.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._new: set[int] = set()
        self._attached: dict[int, dict[tuple[str, int], int]] = {}  # by pid and file
        self._seen: dict[int, None] = {}
        self._refused: dict[int, str] = {}
        self._look_at = 0.0

    @property
    def notes(self) -> list[str]:
        """Who they are."""
        notes = [f"pid {pid} shares the memory, and cannot be traced: {why}." for pid, why in self._refused.items()]
        if self._seen:
            pids = ", ".join(map(str, self._seen))
            notes.append(f"Processes that share the memory are in these numbers (clone with CLONE_VM: {pids}).")
        return notes

    def look(self, trace: HeapTrace, allocators: Iterable[Allocator], *, at_once: bool = False) -> None:
        """Attach to those that came, and to what was mapped since; detach from those that share it no more.

        A child of vfork shares it for a moment, until it execs: one is attached to when it is seen a second time.
        """
        began = time.thread_time()
        if not at_once and time.monotonic() < self._look_at:
            return
        sharing = {pid for pid in self._process.children() if share_memory(self._process.pid, pid)}
        for pid in self._attached.keys() - sharing:
            for number in self._attached.pop(pid).values():
                trace.detach_file(number)
        stayed = sharing if at_once else sharing & (self._new | self._attached.keys())
        self._new = sharing
        for pid in sorted(stayed - self._refused.keys()):
            self._seen[pid] = None
            if trace.uses_session:
                self._attach(trace, pid, allocators)
        self._look_at = time.monotonic() + (time.thread_time() - began) / _MOST_OF_THE_TIME

    def forget_file(self, trace: HeapTrace, file: tuple[str, int]) -> None:
        """Detach from a file that was unmapped."""
        for attached in self._attached.values():
            if file in attached:
                trace.detach_file(attached.pop(file))

    def _attach(self, trace: HeapTrace, pid: int, allocators: Iterable[Allocator]) -> None:
        attached = self._attached.setdefault(pid, {})
        for allocator in allocators:
            if allocator.file in attached:
                continue
            try:
                number = attach_allocator(trace, self._process, allocator, thread=pid, again=True)
            except (TraceError, LabError) as error:
                if share_memory(self._process.pid, pid):
                    self._refused[pid] = str(error)
                return
            if number is not None:
                attached[allocator.file] = number
