"""Captures that a learner saved, held against the processes of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.learn.task import no
from diagnosis.output.document import read_capture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from diagnosis.learn.task import Outcome
    from diagnosis.output.document import Capture


def capture_of(path: Path, pids: Sequence[int], service: int) -> Capture | Outcome:
    """A capture of the service, made of one of these processes; or what is wrong with it.

    Args:
        path: where it was saved.
        pids: the processes that are meant.
        service: the one that runs now.
    """
    if not path.exists():
        return no("no_file", path=path)
    try:
        capture = read_capture(path)
    except LabError as error:
        return no("no_capture", error=error)
    if capture.report.target.pid not in pids:
        return no("other", pid=capture.report.target.pid, service=service)
    return capture
