"""A call site: the function that allocates and its caller. The one definition for report, metrics and chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from diagnosis.report.wrappers import first_own, runs_for_go, runs_for_python

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnosis.target.symbols import Frame

# The name of a stack that could not be taken, or of which no frame is known.
UNKNOWN_STACK = "[unknown stack]"


class CallSite(NamedTuple):
    """A function and its caller, as a report names them. ``caller`` is "" where the stack ends with the function."""

    function: str
    caller: str


def call_site(frames: Sequence[Frame]) -> CallSite:
    """The call site of a stack's frames, innermost first: the first function that somebody can change.

    Allocators, the standard libraries and wrappers of malloc are passed over, see :mod:`diagnosis.report.wrappers`. The
    caller of a C function that Python or Go calls is the function of Python or Go.
    """
    first = first_own(frames)
    own = list(frames[first:] or frames)
    if any(frame.python for frame in own):
        own[1:] = [frame for frame in own[1:] if not runs_for_python(frame)]
    own[1:] = [frame for frame in own[1:] if not runs_for_go(frame)]
    names = [frame.name for frame in own[:2]] or [UNKNOWN_STACK]
    return CallSite(names[0], names[1] if len(names) > 1 else "")


def short_name(frames: Sequence[Frame], depth: int) -> str:
    """The innermost functions of a stack, as one line."""
    return " < ".join(frame.name for frame in frames[:depth]) or UNKNOWN_STACK
