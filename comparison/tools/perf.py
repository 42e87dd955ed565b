"""perf: page faults by call stack. It counts memory that is touched, and knows nothing of frees."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from comparison.tools.tool import Row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# One fault in 64, with the stack's top 4 KiB to unwind, into buffers of 4 MiB: within a percent on a leak of some ten
# megabytes. With one in sixteen and perf's own buffers, a burst of faults was lost now and then.
SAMPLED = 64
STACK_BYTES = 4096
BUFFER = "4M"
PAGE_BYTES = 4096
FILE = "perf.data"

_TOTAL = re.compile(r"# Event count \(approx\.\): (\d+)")
_STACK = re.compile(r"^ +(\d+\.\d+)%.*\n((?:(?! +\d+\.\d+%).*\n?)*)", re.MULTILINE)
_FRAME = re.compile(r"^ +(?:-+)?([^\s|-].*)$", re.MULTILINE)


class Perf:
    """``perf record -e page-faults``, and ``perf report``."""

    slug = "perf"
    name = "perf, page faults"
    probes = 1
    settle_seconds = 0.0

    def missing(self) -> str:
        """Whether perf is there."""
        return "" if shutil.which("perf") else "perf is not installed: apt-get install linux-perf"

    def environment(self, folder: Path) -> Mapping[str, str]:
        """None."""
        del folder
        return {}

    def command(self, pid: int, folder: Path) -> Sequence[str]:
        """As a learner types it."""
        return [
            "perf", "record", "-e", "page-faults", "-c", str(SAMPLED), "--call-graph", f"dwarf,{STACK_BYTES}",
            "-m", BUFFER, "-p", str(pid), "-o", str(folder / FILE),
        ]  # fmt: skip

    def report(self, output: str, folder: Path) -> str:
        """What ``perf report`` prints."""
        del output
        return subprocess.run(
            [
                "perf",
                "report",
                "-i",
                str(folder / FILE),
                "--stdio",
                "--no-children",
                "--no-inline",
                "--percent-limit",
                "5",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def rows(self, report: str) -> Sequence[Row]:
        """The stacks of a report: a share of all faults, a page each."""
        total = _TOTAL.search(report)
        if not total:
            raise ValueError(f"perf report tells no count of events: {report[:200]!r}")
        return [
            Row(_functions(frames), round(float(share) / 100 * int(total[1]) * PAGE_BYTES))
            for share, frames in _STACK.findall(report)
        ]

    def excerpt(self, report: str) -> str:
        """The counts and the stacks: the report less its hints."""
        lines = [line.rstrip() for line in report.splitlines()]
        kept = [line for line in lines if not line.startswith("#") or line.startswith(("# Samples", "# Event count"))]
        return re.sub(r"\n{2,}", "\n", "\n".join(kept)).strip("\n")


def _functions(frames: str) -> tuple[str, ...]:
    return tuple(match[1] for match in _FRAME.finditer(frames))
