"""Puts the frames of Python functions where they belong in a native stack.

The interpreter runs Python functions in one native function. Each call of it runs those that call each other without C
between them: they take its place.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from heap_trace import Ending

from diagnosis.target.python_code import NO_FUNCTION
from diagnosis.target.stack import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from diagnosis.target.python_code import PythonFrame, PythonStack
    from diagnosis.target.stack import SymbolizedStack

# The function, a part of it that the compiler put elsewhere, and its parts where each instruction is a function (3.14).
_RUNS_PYTHON = re.compile(r"_PyEval_EvalFrameDefault(\.\w+)*$|_TAIL_CALL_\w+$")


def merge(stack: SymbolizedStack, python: PythonStack) -> tuple[Frame, ...] | None:
    """The frames of a native stack with those of Python functions in them; None where the two do not match.

    Where both are whole, there are as many native frames that run Python as there are runs of Python functions. Where
    one of them is cut at its outer end, they match from the inner end on.
    """
    runs = list(_runs(python.frames))
    places = [frame for frame in stack.frames if runs_python(frame)]
    whole = stack.ending is Ending.START
    if (len(runs) > len(places) and whole) or (len(runs) < len(places) and python.whole):
        return None
    merged: list[Frame] = []
    left = iter(runs)
    module = ""
    for frame in stack.frames:
        run = next(left, None) if runs_python(frame) else None
        if not run:
            merged.append(frame)
        else:
            module = frame.module
            merged += (_frame(each, module) for each in run)
    for run in left:  # beyond the end of a native stack that is cut short
        merged += (_frame(each, module) for each in run)
    return tuple(merged)


def runs_python(frame: Frame) -> bool:
    """True for a native frame of the interpreter that runs Python functions."""
    return bool(_RUNS_PYTHON.match(frame.function))


def _frame(python: PythonFrame, module: str) -> Frame:
    return Frame(python.function, module or PYTHON, python.file, python.line, 0, python=True)


# The module of Python functions whose interpreter is not in the stack.
PYTHON = "[python]"


def _runs(python: Sequence[PythonFrame]) -> Iterator[tuple[PythonFrame, ...]]:
    """What each native frame of the interpreter runs, innermost first; none where it has ended its last function.

    The last is not whole where frames were cut.
    """
    run: list[PythonFrame] = []
    for frame in python:
        if frame != NO_FUNCTION:
            run.append(frame)
        if frame.called_by_c:
            yield tuple(run)
            run = []
    if run:
        yield tuple(run)
