"""The exit statuses of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from diagnosis.output.tables import print_grade

if TYPE_CHECKING:
    from rich.console import Console

    from diagnosis.lab.grade import Grade

EXIT_WRONG = 1
EXIT_USAGE = 2
EXIT_FOUND = 3
EXIT_NO_GRADE = 4
EXIT_UNSEEN = 5
EXIT_INTERRUPTED = 130

# The one table, for --help and docs/DIAGNOSIS.md.
STATUSES = {
    0: "done, and right where there is something to be right about; also a trace or watch ended early",
    EXIT_WRONG: "wrong (run, verify), or something is missing or left (doctor)",
    EXIT_USAGE: "it could not be done, or a file could not be written: standard error has the reason in one line",
    EXIT_FOUND: "trace, report --fail-on: a leak, or growth, was found",
    EXIT_NO_GRADE: "run, verify: what was found is there, and a grade of it is not available",
    EXIT_UNSEEN: "doctor --gone: nothing was found, and not every place could be looked at",
    EXIT_INTERRUPTED: "stopped by Ctrl-C or a signal before there was a result: everything it started is gone",
}


def statuses_text() -> str:
    """The table, a line each."""
    return "\n".join(f"{status:>4}  {meaning}" for status, meaning in STATUSES.items())


def conclude(console: Console, result: Grade) -> None:
    """Print right or wrong, and end with the exit status that says the same.

    Raises:
        typer.Exit: the answer is wrong, or there is no grade.
    """
    print_grade(console, result)
    if not result.available:
        raise typer.Exit(EXIT_NO_GRADE)
    if not result.right:
        raise typer.Exit(EXIT_WRONG)
