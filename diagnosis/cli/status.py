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
EXIT_INTERRUPTED = 130


def conclude(console: Console, result: Grade) -> None:
    """Print right or wrong, and end with the exit status that says the same.

    Raises:
        typer.Exit: the answer is wrong.
    """
    print_grade(console, result)
    if not result.right:
        raise typer.Exit(EXIT_WRONG)
