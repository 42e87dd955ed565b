"""What is asked of a tool, and the rows that it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One call stack as a tool reported it: functions, innermost first, and bytes outstanding."""

    functions: tuple[str, ...]
    outstanding_bytes: int


class Tool(Protocol):
    """One tool: how it is run on a process, and how its output is read.

    Attributes:
        slug: as the guide's marks have it.
        name: as the tables have it.
        probes: how many tracing files it holds open, at least, when all its probes are in place.
        settle_seconds: how long after the leak's end the tool has to go on before its output holds all of it.
    """

    slug: str
    name: str
    probes: int
    settle_seconds: float

    def missing(self) -> str:
        """Why the tool cannot run here; "" where it can."""
        ...

    def environment(self, folder: Path) -> Mapping[str, str]:
        """Variables that the tool needs. ``folder`` is the run's own, to put files in."""
        ...

    def command(self, pid: int, folder: Path) -> Sequence[str]:
        """The command that watches a process until Ctrl-C."""
        ...

    def report(self, output: str, folder: Path) -> str:
        """What the tool says in the end, from the output of its command and from the files that it left."""
        ...

    def rows(self, report: str) -> Sequence[Row]:
        """The stacks of a report.

        Raises:
            ValueError: the report is not as expected.
        """
        ...

    def excerpt(self, report: str) -> str:
        """The part of a report that the guide shows: its own lines, those of small stacks left out."""
        ...
