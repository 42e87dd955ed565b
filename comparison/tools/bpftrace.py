"""This project's bpftrace script, through its runner."""

from __future__ import annotations

import re
import shutil
import sys
from typing import TYPE_CHECKING

from comparison.tools.tool import Row
from diagnosis.base.units import MIB
from diagnosis.lab.child import PROJECT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

RUNNER = PROJECT / "native/bpftrace/memleak.py"
_STACK = re.compile(r"(\d+) bytes outstanding in \d+ blocks .*\n((?:    .+\n?)*)")


class Bpftrace:
    """``native/bpftrace/memleak.py PID``."""

    slug = "bpftrace"
    name = "bpftrace, native/bpftrace"
    # One for each attach point of memleak.bt but BEGIN, END and the interval.
    probes = 25
    settle_seconds = 0.0

    def missing(self) -> str:
        """Whether bpftrace is there."""
        return "" if shutil.which("bpftrace") else "bpftrace is not installed: apt-get install bpftrace"

    def environment(self, folder: Path) -> Mapping[str, str]:
        """None."""
        del folder
        return {}

    def command(self, pid: int, folder: Path) -> Sequence[str]:
        """As a learner types it; the time is an upper bound."""
        del folder
        return [sys.executable, str(RUNNER), str(pid), "--seconds", "120"]

    def report(self, output: str, folder: Path) -> str:
        """The output."""
        del folder
        return output

    def rows(self, report: str) -> Sequence[Row]:
        """The stacks of the table."""
        return [Row(tuple(_functions(frames)), int(count)) for count, frames in _STACK.findall(report)]

    def excerpt(self, report: str) -> str:
        """The stacks of 1 MiB and more."""
        head, *stacks = report.strip().split("\n\n")
        return "\n\n".join([head, *(stack for stack in stacks if int(stack.split()[0]) >= MIB)])


def _functions(frames: str) -> list[str]:
    # Each is function+offset (file).
    return [line.strip().partition("+")[0] for line in frames.splitlines()]
