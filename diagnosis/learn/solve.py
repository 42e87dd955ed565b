"""Does the learner's path by itself, with the commands of the last hints: the acceptance test of the path."""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.base.units import MIB
from diagnosis.learn.checks import BLIND
from diagnosis.output.saved import read_capture
from diagnosis.report.verdict import Answer
from diagnosis.report.wrappers import first_own

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from diagnosis.learn.bench import CatalogBench
    from diagnosis.learn.case import CaseBench
    from diagnosis.learn.session import Session
    from diagnosis.learn.task import B, Task

__all__ = ["solve_case", "solve_catalog"]

COMMAND_SECONDS = 180.0

# Of the leak, for the kernel's figure to stand out.
ENOUGH_BYTES = 16 * MIB

# A wrong answer to each task: its check has to refuse it, and to refuse nothing at all as well.
WRONG = {
    "claims": "sick 1 GiB",
    "kernel": "1 KiB",
    "grows": "1 1 KiB",
    "name": "malloc main libc.c:1",
    "why": "a",
}


def solve_catalog(session: Session[CatalogBench]) -> None:
    """Do every task on the catalog service: see `_solve`."""
    _solve(session, _ANSWERS, WRONG)


def solve_case(session: Session[CaseBench]) -> None:
    """Do every task on a scenario: see `_solve`."""
    leaks = session.bench.scenario.answer != Answer.NO_LEAK
    _solve(session, _CASE_ANSWERS, {"case_verdict": "no leak" if leaks else "leak main"})


def _solve(
    session: Session[B], answers: Mapping[str, Callable[[Session[B], Task[B]], str]], wrong: Mapping[str, str]
) -> None:
    """Do every task: each check is shown to fail first, then the task is done and its check has to hold.

    Raises:
        LabError: a check held before its task was done, or did not afterwards; or a command failed.
    """
    session.show_task()
    while (task := session.task) is not None:
        for refused in dict.fromkeys(("", wrong.get(task.name, ""))):
            session.console.print(f"learn> check {refused}".rstrip())
            if session.check(refused.split()):
                raise LabError(f"the check of {task.name} holds before the task is done, with {refused!r}")
            session.say("solve.fails_first", "dim")
        for _ in range(task.hints):
            session.do("hint")
        answer = answers[task.name](session, task)
        session.console.print(f"learn> check {answer}".rstrip())
        if not session.check(answer.split()):
            raise LabError(f"the check of {task.name} does not hold: {answer}", "the lines above say why")
        session.do("next")


def _output(session: Session[B], task: Task[B]) -> str:
    """Run the command of the last hint, as a learner in another terminal does."""
    command = task.command(session.bench)
    session.console.print(f"$ {command}", soft_wrap=True)
    session.console.file.flush()
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise LabError(f"{command} ended with status {done.returncode}", (done.stderr or done.stdout).strip())
    return done.stdout


def _find(pattern: str, output: str) -> re.Match[str]:
    found = re.search(pattern, output, re.MULTILINE)
    if found is None:
        raise LabError(f"{pattern} is not in the output", output)
    return found


def _claims(session: Session[CatalogBench], task: Task[CatalogBench]) -> str:
    body = json.loads(_output(session, task))
    return f"{body['status']} {body['metrics']['resident_memory_bytes']}"


def _kernel(session: Session[CatalogBench], task: Task[CatalogBench]) -> str:
    # A service that is as young as this one has nothing to show yet.
    until = time.monotonic() + COMMAND_SECONDS
    while session.bench.service.ledger.read().insert_bytes < ENOUGH_BYTES and time.monotonic() < until:
        time.sleep(0.1)
    return " ".join(_find(r"^VmRSS:\s+(\d+) (kB)", _output(session, task)).groups())


def _grows(session: Session[CatalogBench], task: Task[CatalogBench]) -> str:
    # Other processes of the machine can grow as well: the service's is the one that the kernel task was about.
    return " ".join(
        _find(rf"^pid ({session.bench.service.pid}) grew by .*\((.*) a minute\)", _output(session, task)).groups()
    )


def _run(session: Session[B], task: Task[B]) -> str:
    _output(session, task)
    return ""


def _name(session: Session[CatalogBench], task: Task[CatalogBench]) -> str:
    _output(session, task)
    report = read_capture(session.bench.before).report
    frames = report.stacks[0].frames
    frame = frames[first_own(frames)]
    return f"{report.verdict.function} {report.verdict.caller} {frame.file.rpartition('/')[2]}:{frame.line}"


def _why(session: Session[CatalogBench], task: Task[CatalogBench]) -> str:
    _output(session, task)
    return BLIND


def _fix(session: Session[B], task: Task[B]) -> str:
    session.do(task.command(session.bench))
    return ""


def _verdict(session: Session[CaseBench], task: Task[CaseBench]) -> str:
    _output(session, task)
    verdict = read_capture(session.bench.before).report.verdict
    return f"{verdict.answer} {verdict.function}".rstrip()


_CASE_ANSWERS: dict[str, Callable[[Session[CaseBench], Task[CaseBench]], str]] = {
    "case_trace": _run,
    "case_verdict": _verdict,
    "case_fix": _fix,
    "case_prove": _run,
}
_ANSWERS: dict[str, Callable[[Session[CatalogBench], Task[CatalogBench]], str]] = {
    "claims": _claims,
    "kernel": _kernel,
    "grows": _grows,
    "trace": _run,
    "name": _name,
    "why": _why,
    "fix": _fix,
    "prove": _run,
}
