"""Runs a tool: on the lab's service for what it finds, on a bare loop for what it costs."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from comparison.guide.findings import judge
from comparison.guide.service import held_service
from comparison.loops.contestants import Attached, Nothing
from comparison.loops.loads import PACKAGED_SQLITE, SMALL, compile_programs
from comparison.loops.run import innermost_of_largest
from comparison.tools.session import Session
from diagnosis.base.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from comparison.guide.findings import Finding
    from comparison.guide.service import Scene
    from comparison.loops.contestants import Contestant
    from comparison.tools.tool import Tool

# Under a heavy load a tool may attach too late, or the service may be held in the middle of a refresh.
TRIES = 3
ROUNDS = 3

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What a tool found on a scene, and the part of its report that the guide shows."""

    finding: Finding
    excerpt: str


@dataclass(frozen=True)
class Cost:
    """Processor time of one malloc/free pair of 64 bytes, in ns. ``tool`` is "" for none."""

    tool: str
    ns: float


def run_on_service(tool: Tool, scene: Scene, *, live_seconds: float = 0.0) -> Outcome:
    """One tool on one scene, from the leak's first byte to its last.

    Args:
        tool: which.
        scene: on what.
        live_seconds: watch for this long instead, with the leak going on; the finding then means nothing.

    Raises:
        LabError: the tool or the service failed, several times; the text is the last one's.
    """

    def attempt() -> Outcome:
        with tempfile.TemporaryDirectory() as name, held_service(scene) as service:
            folder = Path(name)
            with Session(tool.command(service.pid, folder), tool.environment(folder)) as session:
                session.wait_until_attached(tool.probes)
                service.release()
                leaked = 0 if live_seconds else service.wait_until_full()
                report = tool.report(session.finish(live_seconds or tool.settle_seconds), folder)
            rows = [] if live_seconds else tool.rows(report)
            return Outcome(judge(tool.name, scene, rows, leaked), tool.excerpt(report))

    return _try(attempt)


def run_on_packaged(tool: Tool) -> str:
    """What a tool names for most of what leaks through a packaged library: see `innermost_of_largest`.

    Raises:
        LabError: the tool or the program failed, several times.
    """

    def attempt() -> str:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            compile_programs(folder)
            rows = Attached(tool.name, tool).run(PACKAGED_SQLITE, folder).rows
            return innermost_of_largest(rows, PACKAGED_SQLITE.keeper)

    return _try(attempt)


def _try(attempt: Callable[[], T]) -> T:
    for _ in range(TRIES - 1):
        try:
            return attempt()
        except LabError:
            continue
    return attempt()


def run_on_loop(tools: Sequence[Tool]) -> list[Cost]:
    """The loop alone, and under each tool, in one run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compile_programs(folder)
        contestants: list[Contestant] = [
            Nothing(""),
            *(Attached(tool.name, tool, counts_blocks=False) for tool in tools),
        ]
        # In turn, and the least of each counts: other probes on this machine's libc make all of them slower.
        rounds = [[each.run(SMALL, folder).figure for each in contestants] for _ in range(ROUNDS)]
        return [
            Cost(each.name, min(figures)) for each, figures in zip(contestants, zip(*rounds, strict=True), strict=True)
        ]
