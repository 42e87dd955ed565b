"""Where an interpreter of CPython keeps its frames: what the program has to know of a process to read them."""

from __future__ import annotations

from dataclasses import dataclass

from heap_trace._heap_trace import lib

NOWHERE: int = lib.PYTHON_NOWHERE


@dataclass(frozen=True)
class PythonFrames:
    """The runtime of a process, and the offsets of fields in bytes: python_frames.h has a line on each.

    ``NOWHERE`` stands for a field that a version does not have.
    """

    runtime: int = 0
    interpreters: int = 0
    next_interpreter: int = 0
    threads: int = 0
    next_thread: int = 0
    previous_thread: int = 0
    interpreter: int = 0
    native_id: int = 0
    current: int = 0
    indirect: int = 0
    code: int = 0
    previous: int = 0
    instruction: int = 0
    owner: int = 0
    entry: int = 0


NO_PYTHON = PythonFrames()
