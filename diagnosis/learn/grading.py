"""Every part of an answer held against the ledger and the source: for `verify`, and for a teacher's list of grades."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnosis.base.errors import LabError
from diagnosis.base.text import safe_text
from diagnosis.base.units import format_size
from diagnosis.lab.grade import DROPPING_FUNCTION, LEAKING_FUNCTION, Grade, grade_function, grade_rate, not_available
from diagnosis.learn.catalog import SOURCE, leaking_line
from diagnosis.learn.proof import Holds, prove
from diagnosis.output.saved import read_capture, read_document, reason_of

if TYPE_CHECKING:
    from diagnosis.lab.ledger import Reading

__all__ = ["Given", "Graded", "answer_of_report", "grade_answer", "grades_as_json"]

SCHEMA = "memleak-lab/grade/1"
# The compiler may count the call to the line before or after.
LINES_OFF = 1


@dataclass(frozen=True)
class Given:
    """An answer. What was not given is None, and is not graded.

    Attributes:
        function: who allocates, or who forgets to free.
        caller: who calls it.
        line: FILE:LINE of the allocation.
        rate: bytes a minute.
    """

    function: str
    caller: str | None = None
    line: str | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Graded:
    """One part of an answer: function, bytes, caller, line or fix."""

    part: str
    grade: Grade


def answer_of_report(path: Path) -> Given:
    """What a report says: the function of its verdict, its caller, its line, and its rate.

    Raises:
        LabError: the file is no report, or names no function.
    """
    try:
        report = read_document(path)
        verdict = report["verdict"]
        function = safe_text(str(verdict["function"]))
        stacks = [s for s in report["stacks"] if s["frames"] and s["frames"][0]["function"] == verdict["function"]]
        rate = _finite(sum(float(stack["bytes_per_minute"]) for stack in stacks))
        place = stacks[0]["frames"][0] if stacks else {}
        line = f"{safe_text(Path(str(place['file'])).name)}:{int(place['line'])}" if place.get("line") else None
        caller = safe_text(str(verdict.get("caller") or "")) or None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        remedy = "write one with: memleak-lab run --report FILE.json"
        raise LabError(f"{path} is no report: {reason_of(error)}", remedy) from error
    if not function:
        raise LabError(f"{path} names no function: it found no leak", "trace the leaking process, and for longer")
    return Given(function, caller, line, rate)


def _finite(rate: float) -> float:
    """A rate that a file gives: 1e999 is a number of JSON."""
    if not math.isfinite(rate):
        raise ValueError(f"its rate is {rate}")
    return rate


def grade_answer(given: Given, reading: Reading, fix: tuple[Path, Path] | None = None) -> list[Graded]:
    """Grade each part that was given.

    Args:
        given: the answer.
        reading: the service's ledger.
        fix: two saved reports, before a fix and after it.

    Raises:
        LabError: one of the two is no report.
    """
    parts = [Graded("function", grade_function(given.function, reading))]
    if given.rate is not None:
        parts.append(Graded("bytes", grade_rate(given.function, given.rate, reading)))
    if given.caller is not None:
        parts.append(Graded("caller", _caller(given.function, given.caller)))
    if given.line is not None:
        parts.append(Graded("line", _line(given.line)))
    if fix is not None:
        parts.append(Graded("fix", _fix(*fix)))
    return parts


def _caller(function: str, caller: str) -> Grade:
    if function.removesuffix("()") == LEAKING_FUNCTION and caller.removesuffix("()") == DROPPING_FUNCTION:
        return Grade(right=True, text=f"RIGHT: {caller} calls it, and drops what it took")
    return Grade(right=False, text=f"WRONG: {caller} does not call the function that leaks")


def _line(given: str) -> Grade:
    found = re.fullmatch(r"(?:.*/)?([^/:]+):(\d{1,9})", given)
    if found is None:
        return Grade(right=False, text=f"WRONG: {given} is no place: it must be FILE:LINE")
    if not SOURCE.exists():
        return not_available(f"{SOURCE} is not here to compare {given} with")
    if found[1] == SOURCE.name and abs(int(found[2]) - leaking_line()) <= LINES_OFF:
        return Grade(right=True, text=f"RIGHT: it allocates in {found[0]}")
    return Grade(right=False, text=f"WRONG: it does not allocate in {given}")


def _fix(before: Path, after: Path) -> Grade:
    proof = prove(read_capture(before).report, read_capture(after).report)
    rates = f"{format_size(proof.before)} a minute before, {format_size(proof.after)} after"
    match proof.holds:
        case Holds.YES:
            return Grade(right=True, text=f"RIGHT: the fix holds: {rates}")
        case Holds.STILL_LEAKS:
            return Grade(right=False, text=f"WRONG: it still leaks, {proof.share:.0%} of what it did: {rates}")
        case Holds.NO_BEFORE:
            return not_available(f"{before} shows too little of the leak to compare with")
        case Holds.ELSEWHERE | Holds.MEMORY_GROWS:
            return Grade(right=False, text=f"WRONG: {proof.holds}: {proof.verdict}")


def grades_as_json(parts: list[Graded], reading: Reading) -> str:
    """The grades as one document, with a line end. ``right`` is null for a part that has no grade."""

    def right(grade: Grade) -> bool | None:
        return grade.right if grade.available else None

    document: dict[str, Any] = {
        "schema": SCHEMA,
        "right": all(right(each.grade) is not False for each in parts),
        "parts": [{"part": each.part, "right": right(each.grade), "text": each.grade.text} for each in parts],
        "ledger": {name: value for name, value in asdict(reading).items() if name != "idle_intervals"},
    }
    return json.dumps(document, indent=2) + "\n"
