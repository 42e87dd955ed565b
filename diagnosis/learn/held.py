"""A service that is held open for a learner, beside the learner's files: what the catalog and the scenarios share."""

from __future__ import annotations

from abc import abstractmethod
from shlex import quote
from typing import TYPE_CHECKING

from diagnosis.base.closing import Closing
from diagnosis.base.own_command import own_command

if TYPE_CHECKING:
    from pathlib import Path

    from diagnosis.base.errors import LabError
    from diagnosis.learn.state import State

BEFORE, AFTER = "before.json", "after.json"


class Held(Closing):
    """Use it as a context manager.

    Args:
        state: how far the learner has come.
        folder: of the learner's files.

    Attributes:
        not_started: why the learner's last build does not start, so that the service runs as it came; None once that
            was said, and where it starts.
    """

    not_started: LabError | None = None

    def __init__(self, state: State, folder: Path) -> None:
        self.state, self.folder = state, folder
        self.cli = own_command()

    @property
    def going_on(self) -> str:
        """The line that goes on with these files."""
        return f"{self.cli} learn --resume --folder {quote(str(self.folder))}"

    @property
    def before(self) -> Path:
        """Where the capture of the service as it came is kept."""
        return self.folder / BEFORE

    @property
    def after(self) -> Path:
        """Where the capture of the fixed service is kept."""
        return self.folder / AFTER

    @property
    @abstractmethod
    def trace_seconds(self) -> float:
        """How long a trace has to be."""
