"""Every part of an answer held against the ledger and the source: for `verify`, and for a teacher's list of grades."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnosis.base.errors import LabError
from diagnosis.base.units import format_size
from diagnosis.lab.grade import CALLERS, DROPPING_FUNCTION, Grade, grade_function, grade_rate, not_available
from diagnosis.learn.catalog import SOURCE, leaking_line
from diagnosis.learn.proof import Holds, kept_by, prove
from diagnosis.output.saved import read_capture
from diagnosis.report.wrappers import first_own

if TYPE_CHECKING:
    from diagnosis.lab.ledger import Reading

__all__ = ["PLACE", "Given", "Graded", "answer_of_report", "grade_answer", "grades_as_json"]

SCHEMA = "memleak-lab/grade/1"
# The compiler may count the call to the line before or after.
LINES_OFF = 1

# A line of a file: FILE:LINE.
PLACE = re.compile(r"(?:.*/)?([^/:]+):(\d{1,9})")


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
    report = read_capture(path).report
    function = report.verdict.function
    if not function:
        raise LabError(f"{path} names no function: it found no leak", "trace the leaking process, and for longer")
    owned = (stack.frames[first_own(stack.frames)] for stack in report.stacks if stack.frames)
    place = next((frame for frame in owned if frame.name == function), None)
    line = f"{Path(place.file).name}:{place.line}" if place and place.line else None
    return Given(function, report.verdict.caller or None, line, kept_by(report, function))


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
    right = CALLERS.get(function.removesuffix("()"))
    if right is None:
        return Grade(right=False, text=f"WRONG: {caller} may call {function}, which is not the function that leaks")
    if caller.removesuffix("()") != right:
        return Grade(right=False, text=f"WRONG: {caller} does not call {function}")
    drops = ", and drops what it took" if right == DROPPING_FUNCTION else ""
    return Grade(right=True, text=f"RIGHT: {caller} calls it{drops}")


def _line(given: str) -> Grade:
    found = PLACE.fullmatch(given)
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
    """The grades as one document, with a line end.

    ``right`` is null for a part that has no grade. That of the document is true where no part is wrong.
    """

    def right(grade: Grade) -> bool | None:
        return grade.right if grade.available else None

    document: dict[str, Any] = {
        "schema": SCHEMA,
        "right": all(right(each.grade) is not False for each in parts),
        "parts": [{"part": each.part, "right": right(each.grade), "text": each.grade.text} for each in parts],
        "ledger": {name: value for name, value in asdict(reading).items() if name != "idle_intervals"},
    }
    return json.dumps(document, indent=2) + "\n"
