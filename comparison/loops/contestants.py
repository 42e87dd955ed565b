"""What is measured: this project's tracer in its several ways, and other tools on the same loads."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from comparison.loops.loads import Running
from comparison.loops.preloaded import Heaptrack, Memray
from comparison.loops.run import Run, bare_name, named_share
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
        ready: what it says once its probes are in; "" where only their number shows it.
        preload_option: the option that names a preloaded allocator; "" where it needs none, None where it has none.
    """

    name: str
    tool: Tool
    options: tuple[str, ...] = ()
    counts_blocks: bool = True
    probes: int = 0
    preload_option: str | None = ""
    ready: str = ""

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
                session.wait_until_said(self.ready)
                figure, kept = running.go()
                report = self.tool.report(session.finish(self.tool.settle_seconds), folder)
            if not self.counts_blocks:
                return Run(figure, kept, found=None)
            rows = self.tool.rows(report)
            found = sum(row.outstanding_bytes for row in rows if load.keeper in map(bare_name, row.functions))
            events = self.tool.events(report) if isinstance(self.tool, LabTrace) else 0
            return Run(figure, kept, found, named_share(rows, load.own), events, tuple(rows))


class EmptyProbes(LabTrace):
    """The same probes, with a program that does nothing: the limit."""

    def command(self, pid: int, folder: Path) -> Sequence[str]:
        """A module of this package."""
        del folder
        return [sys.executable, "-m", "comparison.loops.empty_probes", str(pid)]


# Also the stacks that hold nothing: their calls cost as well.
TRACING = "tracing pid"
ALL_STACKS = ("--top", "1000", "--all")
LIMIT = Attached("the same probes, an empty program", EmptyProbes(), counts_blocks=False)
EXACT = Attached("memleak-lab trace", LabTrace(), ALL_STACKS, ready=TRACING)
BCC = Attached("BCC memleak", LaunchedBcc(), preload_option="--obj={}")
CONTESTANTS: tuple[Contestant, ...] = (
    Nothing(),
    LIMIT,
    EXACT,
    Attached("memleak-lab trace --pair", LabTrace(), (*ALL_STACKS, "--pair"), ready=TRACING),
    Attached("memleak-lab trace --at-entry", LabTrace(), (*ALL_STACKS, "--at-entry"), ready=TRACING),
    Attached("memleak-lab trace --light", LabTrace(), ("--light",), counts_blocks=False, probes=1),
    BCC,
    Attached("bpftrace, native/bpftrace", Bpftrace(), preload_option=None),
    Heaptrack(),
    Memray(),
)
