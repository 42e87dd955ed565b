"""The learner's tasks on the catalog service, in their order."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from diagnosis.learn import checks
from diagnosis.learn.repair import check_fix, check_prove
from diagnosis.learn.task import Task

if TYPE_CHECKING:
    from pathlib import Path

    from diagnosis.learn.bench import CatalogBench

__all__ = ["FINDING", "TASKS"]


def _trace(bench: CatalogBench, file: Path) -> str:
    """The command that traces the service into a file."""
    pid, seconds = bench.service.pid, bench.trace_seconds
    return f"{bench.cli} trace --pid {pid} --duration {seconds:g}s --save {quote(str(file))}"


TASKS: tuple[Task[CatalogBench], ...] = (
    Task(
        "claims",
        checks.check_claims,
        checks.sealed_claims,
        lambda bench: f"curl -s http://{bench.service.at.http}/health",
        2,
    ),
    Task(
        "kernel",
        checks.check_kernel,
        checks.sealed_kernel,
        lambda bench: f"grep VmRSS /proc/{bench.service.pid}/status",
        2,
    ),
    Task(
        "grows",
        checks.check_grows,
        checks.sealed_grows,
        lambda bench: f"{bench.cli} watch --top 20 --duration {bench.trace_seconds:g}s",
        2,
    ),
    Task(
        "trace",
        checks.check_trace,
        checks.sealed_trace,
        lambda bench: _trace(bench, bench.before),
        2,
    ),
    Task(
        "name",
        checks.check_name,
        lambda _: checks.true_place(),
        lambda bench: f"{bench.cli} report {quote(str(bench.before))}",
        3,
    ),
    Task(
        "why",
        checks.check_why,
        lambda _: {"letter": checks.BLIND},
        lambda bench: f"curl -s http://{bench.service.at.metrics}/metrics",
        2,
    ),
    Task("fix", check_fix, lambda _: {}, lambda _: "fix", 3),
    Task(
        "prove",
        check_prove,
        lambda _: {},
        lambda bench: _trace(bench, bench.after),
        2,
    ),
)

# Those that can be done on a service that is not to be restarted.
FINDING = tuple(task for task in TASKS if task.name not in {"fix", "prove"})
