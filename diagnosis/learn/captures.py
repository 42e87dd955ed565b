"""Captures that a learner saved, held against the processes of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.learn.task import Outcome, no
from diagnosis.output.saved import read_capture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from diagnosis.learn.held import Held
    from diagnosis.output.document import Capture


# A window may end a little early: a reading takes its time.
WHOLE = 0.9


def capture_of(path: Path, pids: Sequence[int], service: int, seconds: float) -> Capture | Outcome:
    """A capture of the service, made of one of these processes; or what is wrong with it.

    Args:
        path: where it was saved.
        pids: the processes that are meant.
        service: the one that runs now.
        seconds: how long the window has to be.
    """
    if not path.exists():
        return no("no_file", path=path)
    try:
        capture = read_capture(path)
    except LabError as error:
        return no("no_capture", error=error)
    if capture.report.target.pid not in pids:
        return no("other", pid=capture.report.target.pid, service=service)
    if capture.report.window_seconds < WHOLE * seconds:
        return no("short", took=f"{capture.report.window_seconds:.0f}", seconds=f"{seconds:g}")
    return capture


def both_captures(held: Held, service: int) -> tuple[Capture, Capture] | Outcome:
    """The captures before the fix and after it; or what is wrong with one of them.

    Args:
        held: whose files they are, and which processes ran with the fix.
        service: the process that runs now.
    """
    fixed = held.state.fixed_from or 0
    before = capture_of(held.before, held.state.pids[:fixed], service, held.trace_seconds)
    if isinstance(before, Outcome):  # what runs now has no leak to trace: whatever is wrong, the fix has to go first
        return no("no_before", path=held.before)
    after = capture_of(held.after, held.state.pids[fixed:], service, held.trace_seconds)
    if isinstance(after, Outcome):
        return after
    return before, after
