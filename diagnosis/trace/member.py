"""A process of a group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError

if TYPE_CHECKING:
    from diagnosis.target.process import Process, Resident
    from diagnosis.trace.footprints import Moment
    from diagnosis.trace.named import NamedTracer


@dataclass(eq=False)
class Member:
    """A process of the group. ``traced`` is None before its probes are attached, or for ever.

    ``base`` is the resident memory that is not its own growth; ``started`` is in seconds of CLOCK_BOOTTIME. ``first``
    is what it held when the window began, or of one that is ``fresh`` and came later, when its probes were in.
    """

    process: Process
    started: float
    program: tuple[str, ...]
    base: Resident
    last: Resident
    traced: NamedTracer | None = None
    attaching: bool = True
    leaving: bool = False
    first: Moment | None = None
    fresh: bool = True

    def look(self) -> None:
        """Read its resident memory. That of one that has ended stays as it was last seen."""
        try:
            self.last = self.process.resident()
        except (LabError, OSError):  # it has ended, or no descriptor is free
            return
