"""The Python functions of one traced process's stacks: named as soon as a stack is handed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heap_trace.python import NO_PYTHON

from diagnosis.target.python import find_python
from diagnosis.target.python_code import CodeReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heap_trace import PythonFrames, Stack

    from diagnosis.target.process import Process
    from diagnosis.target.python_code import PythonStack


_LATE = "Python functions that came late have no name or no line: no more of one process are read."


class PythonNames:
    """Names what the program hands over. For a process that is no Python it does nothing.

    Raises:
        LabError: the process has ended, or is another user's.
    """

    def __init__(self, process: Process) -> None:
        found = find_python(process)
        self.frames: PythonFrames = found.interpreter.frames if found.interpreter else NO_PYTHON
        self.notes: tuple[str, ...] = ()
        if found.reason:
            self.notes = (f"Python functions are not named: {found.reason}.",)
        self._reader = CodeReader(process, found.interpreter.code) if found.interpreter else None
        self._named: dict[int, PythonStack] = {}

    @property
    def limits(self) -> tuple[str, ...]:
        """What a reader of the names has to know, once there were too many of them."""
        return (_LATE,) if self._reader and self._reader.full else ()

    def add(self, stacks: Mapping[int, Stack]) -> None:
        """Name those stacks that are new, by their hashes."""
        if self._reader:
            self._named.update(
                self._reader.named({found: stack for found, stack in stacks.items() if found not in self._named})
            )

    def of(self, stack: int) -> PythonStack | None:
        """The Python functions of a stack; None where it has none."""
        return self._named.get(stack)

    def close(self) -> None:
        """Close the process's memory. What was named stays so."""
        if self._reader:
            self._reader.close()
