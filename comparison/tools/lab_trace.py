"""This project's own command, ``memleak-lab trace``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from comparison.tools.tool import Row
from diagnosis.lab.child import PROJECT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM = Path(sys.executable).with_name("memleak-lab")


class LabTrace:
    """``memleak-lab trace --pid PID``.

    Args:
        for_people: print the table, which rounds, and not JSON, which does not. Its verdict needs a window of known
            length.
    """

    slug = "memleak-lab"
    name = "memleak-lab trace"
    # One link for all probes, or one file each.
    probes = 1
    settle_seconds = 0.0

    def __init__(self, *, for_people: bool = False) -> None:
        self._options = (
            ("--duration", "20s", "--format", "table") if for_people else ("--duration", "10m", "--format", "json")
        )

    def missing(self) -> str:
        """Whether it is installed beside this Python."""
        return "" if PROGRAM.exists() else "memleak-lab is not installed here: make install"

    def environment(self, folder: Path) -> Mapping[str, str]:
        """A width for its table."""
        del folder
        return {"COLUMNS": "120"}

    def command(self, pid: int, folder: Path) -> Sequence[str]:
        """As a learner types it; the time is an upper bound."""
        del folder
        return [str(PROGRAM), "trace", "--pid", str(pid), "--top", "1", *self._options]

    def report(self, output: str, folder: Path) -> str:
        """The output."""
        del folder
        return output

    def rows(self, report: str) -> Sequence[Row]:
        """The stacks of the JSON document."""
        return [
            Row(tuple(frame["function"] for frame in stack["frames"]), int(stack["outstanding_bytes"]))
            for stack in json.loads(report)["stacks"]
        ]

    def events(self, report: str) -> int:
        """How many calls took or gave back memory, of all stacks that the JSON document has."""
        return sum(int(stack["allocations"]) + int(stack["frees"]) for stack in json.loads(report)["stacks"])

    def excerpt(self, report: str) -> str:
        """All of the table, which is one stack long, without the name of this checkout's folder."""
        return report.replace(f"{PROJECT}/", "").strip()
