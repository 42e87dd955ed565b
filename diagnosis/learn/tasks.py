"""The learner's tasks on the catalog service, and their checks: each compares an answer with the process itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from shlex import quote
from typing import TYPE_CHECKING

from catalog_cache import Options

from diagnosis.base.errors import LabError
from diagnosis.base.units import format_size, parse_size
from diagnosis.lab.grade import DROPPING_FUNCTION, LEAKING_FUNCTION
from diagnosis.learn.catalog import SOURCE, leaking_line
from diagnosis.learn.proof import Holds, kept_by, prove
from diagnosis.learn.trial import Answers
from diagnosis.output.document import read_capture
from diagnosis.report.verdict import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from diagnosis.learn.bench import Bench
    from diagnosis.output.document import Capture

__all__ = ["BLIND", "FIX", "TASKS", "Outcome", "Task", "check_fix"]

# A figure that is read by eye and typed is right within this share.
READ_TOLERANCE = 0.05
# A rate that was measured in a window of its own.
RATE_TOLERANCE = 0.3
# What the kernel counts and what is claimed are told apart from here on.
APART = 1.25

# The reason why the dashboards were blind, among those that the text offers.
BLIND = "c"
REASONS = "abcd"


@dataclass(frozen=True)
class Outcome:
    """What a check says: whether the task is done, and the message that says why, with its values.

    ``captures`` are to be shown beside each other.
    """

    passed: bool
    key: str
    values: Mapping[str, object] = field(default_factory=dict)
    captures: tuple[Capture, Capture] | None = None


@dataclass(frozen=True)
class Task:
    """One task: its texts are in the catalogs by its name.

    Attributes:
        name: the table of its messages.
        check: compares what was typed, as words, with what is so.
        sealed: the values of its answer.
        command: what answers it, to be typed in another terminal: the last hint.
        hints: how many there are.
    """

    name: str
    check: Callable[[Bench, Sequence[str]], Outcome]
    sealed: Callable[[Bench], Mapping[str, object]]
    command: Callable[[Bench], str]
    hints: int


def no(key: str, **values: object) -> Outcome:
    """The task is not done."""
    return Outcome(passed=False, key=key, values=values)


def yes(**values: object) -> Outcome:
    """It is done."""
    return Outcome(passed=True, key="right", values=values)


def size_in(words: Sequence[str]) -> int | None:
    """A size among words: 31.2 MiB, 31MiB, 32000 kB, 32212254; None where there is none."""
    text = re.sub(r"(?i)\bkb\b|(?<=\d)kb\b", "KiB", " ".join(words))
    found = re.search(r"(?i)\d[\d.,]*\s*(?:[kmg]i?b?\b|b\b)?", text)
    try:
        cleaned = re.sub(r"(?i)([kmg])b\b", r"\1ib", found[0].replace(",", "")) if found else ""
        return parse_size(cleaned)
    except ValueError:
        return None


# --- the claims, the kernel, who grows ---


def _check_claims(bench: Bench, words: Sequence[str]) -> Outcome:
    claims = bench.service.claims.read()
    size = size_in(words)
    if size is None:
        return no("no_size")
    if claims.status.lower() not in {word.lower().strip(",;\"'") for word in words}:
        return no("status")
    if abs(size / claims.resident_bytes - 1) > READ_TOLERANCE:
        return no("size", typed=format_size(size))
    return yes(status=claims.status, claimed=format_size(claims.resident_bytes))


def _sealed_claims(bench: Bench) -> Mapping[str, object]:
    claims = bench.service.claims.read()
    return {"status": claims.status, "claimed": format_size(claims.resident_bytes)}


def _check_kernel(bench: Bench, words: Sequence[str]) -> Outcome:
    claimed = bench.service.claims.read().resident_bytes
    size = size_in(words)
    # It grows while it is typed: anything that it was lately is right.
    minute = round(bench.service.ledger.read().leaked_bytes_per_minute)
    now = bench.service.process.resident().total_bytes
    if size is None:
        return no("no_size")
    if now < APART * claimed:
        return no("wait", claimed=format_size(claimed))
    if size < claimed * (1 + READ_TOLERANCE):
        return no("claim", typed=format_size(size))
    if not now - 2 * minute - READ_TOLERANCE * now <= size <= now * (1 + READ_TOLERANCE):
        return no("size", typed=format_size(size))
    return yes(now=format_size(now), claimed=format_size(claimed), apart=format_size(now - claimed))


def _sealed_kernel(bench: Bench) -> Mapping[str, object]:
    return {"now": format_size(bench.service.process.resident().total_bytes), "pid": bench.service.pid}


def _check_grows(bench: Bench, words: Sequence[str]) -> Outcome:
    numbers = [word for word in words if word.isdecimal()]
    pid = int(numbers[0]) if numbers else None
    rate = size_in(words[words.index(numbers[0]) + 1 :]) if numbers else None
    if pid is None or rate is None:
        return no("incomplete")
    if pid != bench.service.pid:
        return no("ended" if pid in bench.state.pids else "pid", pid=pid)
    true = bench.service.ledger.read().speed * _bytes_a_minute()
    if abs(rate / true - 1) > RATE_TOLERANCE:
        return no("rate", typed=format_size(rate))
    return yes(pid=pid, typed=format_size(rate), true=format_size(true))


def _bytes_a_minute() -> float:
    """What the leak takes a minute at speed 1."""
    return Options().refresh_bytes / Options().period_seconds * 60


def _sealed_grows(bench: Bench) -> Mapping[str, object]:
    return {"pid": bench.service.pid, "true": format_size(bench.state.speed * _bytes_a_minute())}


# --- the trace, and what it names ---


def _capture(bench: Bench, path: Path, pids: Sequence[int]) -> Capture | Outcome:
    """A capture of the service, made by one of these processes; or what is wrong with it."""
    if not path.exists():
        return no("no_file", path=path)
    try:
        capture = read_capture(path)
    except LabError as error:
        return no("no_capture", error=error)
    if capture.report.target.pid not in pids:
        return no("other", pid=capture.report.target.pid, service=bench.service.pid)
    return capture


def _check_trace(bench: Bench, words: Sequence[str]) -> Outcome:
    del words
    known = bench.state.pids[: bench.state.fixed_from]
    capture = _capture(bench, bench.before, known)
    if isinstance(capture, Outcome):
        return capture
    report = capture.report
    if report.verdict.answer is not Answer.LEAK:
        return no("no_leak", verdict=report.verdict.answer, seconds=f"{bench.trace_seconds:g}")
    true = bench.state.speed * _bytes_a_minute()
    kept = kept_by(report, LEAKING_FUNCTION)
    if abs(kept / true - 1) > RATE_TOLERANCE:
        return no("rate", kept=format_size(kept))
    found = report.outstanding_of(LEAKING_FUNCTION)
    return yes(
        kept=format_size(kept),
        true=format_size(true),
        blocks=f"{found.allocations:,}",
        frees=f"{found.frees:,}",
        bytes=format_size(found.outstanding_bytes),
    )


def _sealed_trace(bench: Bench) -> Mapping[str, object]:
    return {"true": format_size(bench.state.speed * _bytes_a_minute())}


def _check_name(bench: Bench, words: Sequence[str]) -> Outcome:
    del bench
    names = [word.strip(",;()") for word in words]
    place = re.search(r"([\w.+-]+\.\w+):(\d+)", " ".join(words))
    if not names:
        return no("incomplete")
    if LEAKING_FUNCTION not in names:
        return no("swapped" if names[0] == DROPPING_FUNCTION else "function", typed=names[0])
    if DROPPING_FUNCTION not in names or names.index(DROPPING_FUNCTION) < names.index(LEAKING_FUNCTION):
        return no("caller")
    if place is None:
        return no("no_line")
    if place[1] != SOURCE.name or abs(int(place[2]) - leaking_line()) > 1:
        return no("line", typed=place[0])
    return yes(**_place())


def _place() -> dict[str, object]:
    return {
        "function": LEAKING_FUNCTION,
        "caller": DROPPING_FUNCTION,
        "file": SOURCE.name,
        "line": leaking_line(),
    }


def _check_why(bench: Bench, words: Sequence[str]) -> Outcome:
    letter = words[0].lower().strip(".)") if words else ""
    if letter not in REASONS or len(letter) != 1:
        return no("incomplete")
    if letter != BLIND:
        return no(f"wrong_{letter}")
    claims, now = bench.service.claims.read(), bench.service.process.resident().total_bytes
    return yes(
        claimed=format_size(claims.resident_bytes), now=format_size(now), share=f"{claims.resident_bytes / now:.0%}"
    )


# --- the fix, and its proof ---


def check_fix(bench: Bench, words: Sequence[str]) -> Outcome:
    """Compile the learner's file and try it; the service runs it where it answers right."""
    del words
    if bench.source.read_text() == SOURCE.read_text():
        return no("unchanged", source=bench.source)
    try:
        trial = bench.rebuild()
    except LabError as error:
        return no("compiler", error=error)
    if trial.answers is not Answers.RIGHT:
        return no(str(trial.answers), detail=trial.detail, lookups=trial.lookups)
    return yes(lookups=trial.lookups, pid=bench.service.pid)


def _check_prove(bench: Bench, words: Sequence[str]) -> Outcome:
    del words
    if not bench.is_built:
        return no("not_built")
    fixed = bench.state.fixed_from or 0
    before = _capture(bench, bench.before, bench.state.pids[:fixed])
    after = _capture(bench, bench.after, bench.state.pids[fixed:])
    if isinstance(before, Outcome):
        return before
    if isinstance(after, Outcome):
        return after
    proof = prove(before.report, after.report)
    values = {
        "before_rate": format_size(proof.before),
        "after_rate": format_size(proof.after),
        "share": f"{proof.share:.0%}",
        "verdict": proof.verdict,
    }
    if proof.holds is Holds.YES:
        return Outcome(passed=True, key="right", values=values, captures=(before, after))
    return Outcome(passed=False, key=str(proof.holds).replace(" ", "_"), values=values, captures=(before, after))


def _trace(bench: Bench, file: Path) -> str:
    """The command that traces the service into a file."""
    pid, seconds = bench.service.pid, bench.trace_seconds
    return f"{bench.cli} trace --pid {pid} --duration {seconds:g}s --save {quote(str(file))}"


TASKS = (
    Task("claims", _check_claims, _sealed_claims, lambda bench: f"curl -s http://{bench.service.at.http}/health", 2),
    Task("kernel", _check_kernel, _sealed_kernel, lambda bench: f"grep VmRSS /proc/{bench.service.pid}/status", 2),
    Task(
        "grows",
        _check_grows,
        _sealed_grows,
        lambda bench: f"{bench.cli} watch --duration {bench.trace_seconds:g}s",
        2,
    ),
    Task(
        "trace",
        _check_trace,
        _sealed_trace,
        lambda bench: _trace(bench, bench.before),
        2,
    ),
    Task("name", _check_name, lambda _: _place(), lambda bench: f"{bench.cli} report {quote(str(bench.before))}", 3),
    Task(
        "why",
        _check_why,
        lambda _: {"letter": BLIND},
        lambda bench: f"curl -s http://{bench.service.at.metrics}/metrics",
        2,
    ),
    Task("fix", check_fix, lambda _: {}, lambda _: "fix", 3),
    Task(
        "prove",
        _check_prove,
        lambda _: {},
        lambda bench: _trace(bench, bench.after),
        2,
    ),
)

# The number of the task from which on the source may be edited.
FIX = next(number for number, task in enumerate(TASKS) if task.name == "fix")
