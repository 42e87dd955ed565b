"""What is measured: this project's tracer in its several ways, and other tools on the same loads."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from comparison.loops.loads import Running
from comparison.tools.bcc import LaunchedBcc
from comparison.tools.bpftrace import Bpftrace
from comparison.tools.lab_trace import LabTrace
from comparison.tools.session import Session
from diagnosis.base.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from comparison.loops.loads import Load
    from comparison.tools.tool import Tool

KEEPER = "keep_block"


@dataclass(frozen=True)
class Run:
    """One contestant on one load: the load's figure, the bytes it kept, and the bytes that the tool found of them."""

    figure: float
    kept: int
    found: int | None


class Contestant(Protocol):
    """Something to measure."""

    @property
    def name(self) -> str:
        """As the table has it."""
        ...

    def missing(self) -> str:
        """Why it cannot run here; "" where it can."""
        ...

    def run(self, load: Load, folder: Path) -> Run:
        """Measure it once."""
        ...


@dataclass(frozen=True)
class Nothing:
    """No tracer: what everything else is compared with."""

    name: str = "no tracer"

    def missing(self) -> str:
        """Never."""
        return ""

    def run(self, load: Load, folder: Path) -> Run:
        """Measure the load alone."""
        with Running(load, folder) as running:
            return Run(*running.go(), found=None)


@dataclass(frozen=True)
class Attached:
    """A tool that attaches to a running process.

    Attributes:
        options: words added to its command.
        counts_blocks: False where its figures are no counts of blocks.
        probes: how many tracing files it opens this way; 0 for as many as the tool always does.
        preload_option: the option that names a preloaded allocator; "" where it needs none, None where it has none.
    """

    name: str
    tool: Tool
    options: tuple[str, ...] = ()
    counts_blocks: bool = True
    probes: int = 0
    preload_option: str | None = ""

    def missing(self) -> str:
        """As the tool says."""
        return self.tool.missing()

    def run(self, load: Load, folder: Path) -> Run:
        """Measure the load with the tool attached.

        Raises:
            LabError: it does not attach, or cannot trace a preloaded allocator.
        """
        words = [*self.options]
        if load.preload and self.preload_option is not None:
            words += [self.preload_option.format(folder / f"{load.preload}.so")] if self.preload_option else []
        elif load.preload:
            raise LabError("probes the C library only")
        with Running(load, folder) as running:
            command: Sequence[str] = [*self.tool.command(running.pid, folder), *words]
            with Session(command, self.tool.environment(folder)) as session:
                session.wait_until_attached(self.probes or self.tool.probes)
                figure, kept = running.go()
                report = self.tool.report(session.finish(self.tool.settle_seconds), folder)
            if not self.counts_blocks:
                return Run(figure, kept, found=None)
            rows = [row for row in self.tool.rows(report) if KEEPER in row.functions]
            return Run(figure, kept, found=sum(row.outstanding_bytes for row in rows))


@dataclass(frozen=True)
class Heaptrack:
    """heaptrack: no eBPF, an allocator preloaded into the process from its start."""

    name: str = "heaptrack (preloaded)"

    def missing(self) -> str:
        """Whether it is installed."""
        return "" if shutil.which("heaptrack") else "heaptrack is not installed: apt-get install heaptrack"

    def run(self, load: Load, folder: Path) -> Run:
        """Measure the load under it."""
        for old in folder.glob("heaptrack.*"):
            old.unlink()
        with Running(load, folder, ("heaptrack", "-o", str(folder / "heaptrack"))) as running:
            figure, kept = running.go()
            running.end()
        found = self._leaked(folder) if load.command[0] == "{loop}" else None
        return Run(figure, kept, found)

    def _leaked(self, folder: Path) -> int | None:
        recorded = next(folder.glob("heaptrack.*"), None)
        if recorded is None:
            return None
        folded = folder / "folded"
        subprocess.run(
            ["heaptrack_print", "--print-flamegraph", folded, "--flamegraph-cost-type", "leaked", recorded],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        rows = re.findall(rf"^.*{KEEPER}.* (\d+)$", folded.read_text(), re.MULTILINE)
        return sum(map(int, rows))


class EmptyProbes(LabTrace):
    """The same probes, with a program that does nothing: the limit."""

    def command(self, pid: int, folder: Path) -> Sequence[str]:
        """A module of this package."""
        del folder
        return [sys.executable, "-m", "comparison.loops.empty_probes", str(pid)]


LIMIT = Attached("the same probes, an empty program", EmptyProbes(), counts_blocks=False)
EXACT = Attached("memleak-lab trace", LabTrace())
BCC = Attached("BCC memleak", LaunchedBcc(), preload_option="--obj={}")
CONTESTANTS: tuple[Contestant, ...] = (
    Nothing(),
    LIMIT,
    EXACT,
    Attached("memleak-lab trace --pair", LabTrace(), ("--pair",)),
    Attached("memleak-lab trace --at-entry", LabTrace(), ("--at-entry",)),
    Attached("memleak-lab trace --light", LabTrace(), ("--light",), counts_blocks=False, probes=1),
    BCC,
    Attached("bpftrace, native/bpftrace", Bpftrace(), preload_option=None),
    Heaptrack(),
)
