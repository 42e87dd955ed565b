"""``memleak-lab verify``: an answer, graded."""

import enum
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from diagnosis.base.errors import LabError
from diagnosis.cli.formats import emit
from diagnosis.cli.status import EXIT_NO_GRADE, EXIT_WRONG
from diagnosis.lab.ledger import LedgerClient
from diagnosis.learn.grading import PLACE, Given, answer_of_report, grade_answer, grades_as_json
from diagnosis.output.saved import read_capture
from diagnosis.output.tables import print_grade, report_console

DEFAULT_LEDGER = "http://127.0.0.1:9091/ledger"


class GradeFormat(enum.StrEnum):
    """How grades are printed."""

    TEXT = "text"
    JSON = "json"


def verify_command(
    answer: Annotated[str, typer.Argument(help="A report file, or the name of a function.", metavar="ANSWER")],
    *,
    ledger: Annotated[str, typer.Option(help="The service's ledger.", metavar="URL")] = DEFAULT_LEDGER,
    caller: Annotated[str | None, typer.Option(metavar="NAME", help="Grade the caller as well.")] = None,
    line: Annotated[str | None, typer.Option(metavar="FILE:LINE", help="Grade the line as well.")] = None,
    fixed: Annotated[
        Path | None,
        typer.Option(metavar="AFTER.json", help="A report of the fixed service: say whether the fix holds."),
    ] = None,
    output: Annotated[GradeFormat, typer.Option("--format", help="How to print the grades.")] = GradeFormat.TEXT,
) -> None:
    """Compare an answer with the leaker's own ledger: right or wrong, part by part, and by how much."""
    path = Path(answer)
    if not answer.strip():
        raise LabError("the answer is empty", "name a report file, or the function that leaks")
    is_file = path.suffix == ".json" or os.path.isfile(answer)  # noqa: PTH113 - Path.is_file raises for long names
    if line is not None and not PLACE.fullmatch(line):
        raise LabError(f"--line is {line!r}, which is no line of a file", "write --line FILE:LINE, such as cache.c:82")
    if fixed is not None and not is_file:
        raise LabError("--fixed compares two reports", "memleak-lab verify BEFORE.json --fixed AFTER.json")
    # What the command line names first: where it is wrong, the ledger is not asked.
    given = answer_of_report(path) if is_file else Given(answer)
    if fixed is not None:
        read_capture(fixed)
    client = LedgerClient(ledger)
    try:
        reading = client.read()
    finally:
        client.close()
    given = replace(given, caller=caller or given.caller, line=line or given.line)
    parts = grade_answer(given, reading, (path, fixed) if fixed is not None else None)
    if output is GradeFormat.JSON:
        emit(grades_as_json(parts, reading))
    else:
        console = report_console()
        # What is said of the bytes names the function as well.
        for each in parts[1:] if is_file else parts:
            print_grade(console, each.grade)
    grades = [each.grade for each in parts]
    if any(grade.available and not grade.right for grade in grades):
        raise typer.Exit(EXIT_WRONG)
    if any(not grade.available for grade in grades):
        raise typer.Exit(EXIT_NO_GRADE)
