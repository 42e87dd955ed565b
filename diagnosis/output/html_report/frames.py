"""What a page says of one frame: its place, and whose code it is."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from diagnosis.report.wrappers import runs_for_python, takes_for_its_caller

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnosis.target.symbols import Frame


class Kind(enum.StrEnum):
    """Whose code a frame is: the page gives each its colour."""

    NAMED = "named"  # the function that the verdict names
    PYTHON = "python"
    NATIVE = "native"
    PASSED = "passed"  # allocators, standard libraries and runtimes: see diagnosis/report/wrappers.py
    NONE = "none"  # no code: a program, what is missing


def kinds_of(frames: Sequence[Frame], named: str) -> list[Kind]:
    """Whose code each frame of a stack is, where the verdict names a function.

    The interpreter runs for Python where Python's functions are named; in a stack without these it is native code.
    """
    runs_python = any(frame.python for frame in frames)

    def kind(frame: Frame) -> Kind:
        if named and frame.name == named:
            return Kind.NAMED
        if frame.python:
            return Kind.PYTHON
        passed = takes_for_its_caller(frame) or (runs_python and runs_for_python(frame))
        return Kind.PASSED if passed else Kind.NATIVE

    return [kind(frame) for frame in frames]


def place_of(frame: Frame) -> str:
    """The file's name and the line, or the module where the line is not known."""
    return f"{frame.file.rpartition('/')[2]}:{frame.line}" if frame.line else frame.module
