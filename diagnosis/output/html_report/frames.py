"""What a page says of one frame: its place, and whose code it is."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from diagnosis.report.wrappers import takes_for_its_caller

if TYPE_CHECKING:
    from diagnosis.target.symbols import Frame


class Kind(enum.StrEnum):
    """Whose code a frame is: the page gives each its colour."""

    NAMED = "named"  # the function that the verdict names
    PYTHON = "python"
    NATIVE = "native"
    PASSED = "passed"  # allocators, standard libraries and runtimes: see diagnosis/report/wrappers.py
    NONE = "none"  # no code: a program, what is missing


def kind_of(frame: Frame, named: str) -> Kind:
    """Whose code a frame is, where the verdict names a function."""
    if named and frame.name == named:
        return Kind.NAMED
    if frame.file.endswith((".py", ".pyx")):
        return Kind.PYTHON
    return Kind.PASSED if takes_for_its_caller(frame) else Kind.NATIVE


def place_of(frame: Frame) -> str:
    """The file's name and the line, or the module where the line is not known."""
    return f"{frame.file.rpartition('/')[2]}:{frame.line}" if frame.line else frame.module
