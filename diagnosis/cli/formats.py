"""How a report leaves the command: its formats, the file that keeps it, and the exit status that judges it."""

from __future__ import annotations

import enum
import sys
from shlex import quote
from typing import TYPE_CHECKING

import typer

from diagnosis.base.errors import LabError
from diagnosis.cli.status import EXIT_FOUND
from diagnosis.output.atomic import try_writing, write_atomically
from diagnosis.output.document import report_as_json
from diagnosis.output.folded import folded
from diagnosis.output.html_report.page import render
from diagnosis.output.pprof import pprof
from diagnosis.output.speedscope import speedscope
from diagnosis.output.tables import print_report, report_console
from diagnosis.report.verdict import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from diagnosis.lab.ledger import LedgerWindow
    from diagnosis.output.document import Capture


class Format(enum.StrEnum):
    """How a report is printed."""

    TABLE = "table"
    JSON = "json"
    FOLDED = "folded"
    PPROF = "pprof"
    SPEEDSCOPE = "speedscope"


class FailOn(enum.StrEnum):
    """What ends the command with an exit status of its own."""

    LEAK = "leak"
    GROWTH = "growth"


def emit(text: str | bytes) -> None:
    """Write to standard output.

    Raises:
        LabError: nobody reads it any more.
        OSError: it cannot be written, as to a disk that is full.
    """
    try:
        if isinstance(text, str):
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise LabError("standard output was closed") from error


def print_capture(
    capture: Capture, output: Format, *, top: int, everything: bool, ledger: LedgerWindow | None = None
) -> None:
    """Print a report.

    Raises:
        LabError: pprof is binary, and standard output is a terminal.
    """
    report = capture.report
    match output:
        case Format.JSON:
            emit(report_as_json(capture, ledger=ledger, everything=everything))
        case Format.FOLDED:
            held = ((stack.frames, stack.outstanding_bytes) for stack in report.stacks)
            emit("".join(f"{line}\n" for line in folded(report.target, held)))
        case Format.SPEEDSCOPE:
            emit(speedscope(capture))
        case Format.PPROF:
            refuse_terminal(output)
            emit(pprof(capture))
        case Format.TABLE:
            print_report(report_console(), report, len(report.stacks) if everything else top, everything=everything)


def refuse_terminal(output: Format) -> None:
    """Raise a LabError where a binary format would be printed on a terminal: before the trace, not after it."""
    if output is Format.PPROF and sys.stdout.isatty():
        raise LabError("--format pprof is binary", "write it into a file: ... --format pprof > heap.pb.gz")


def check_writable(files: Mapping[str, Path | None]) -> None:
    """Try the files that options name: before the trace, not after it.

    Raises:
        LabError: one of them cannot be written, or two are the same file.
    """
    named: dict[Path, str] = {}
    for option, path in files.items():
        if path is None:
            continue
        try:
            try_writing(path)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError) and not path.parent.exists()
            remedy = f"mkdir -p {quote(str(path.parent))}, or name another file" if missing else "name another file"
            raise LabError(f"{option} {path}: it cannot be written: {error.strerror}", remedy) from error
        # What is no file of a folder, as /dev/stdout, can be written to twice.
        other = named.setdefault(path.resolve(), option)
        if other != option and (path.is_file() or not path.exists()):
            raise LabError(f"{other} and {option} name the same file, {path}", f"name another file by {option}")


def write_file(path: Path, write: Callable[[Path], object]) -> list[LabError]:
    """Write a file; what went wrong, as an error for later: the report on the terminal comes before it."""
    try:
        write(path)
    except OSError as error:
        return [LabError(f"{path} could not be written: {error.strerror}", "the report above is complete")]
    return []


def write_page(path: Path | None, contents: Callable[[], dict[str, Any]]) -> list[LabError]:
    """Write the page of `--html`, where it is wanted; what went wrong, as an error for later."""
    return write_file(path, lambda file: write_atomically(file, render(contents()))) if path else []


def fail_on(answer: Answer, failing: FailOn | None) -> None:
    """End with an exit status of its own where the verdict is what was asked for.

    Raises:
        typer.Exit: it is.
    """
    wanted = {None: (), FailOn.LEAK: (Answer.LEAK,), FailOn.GROWTH: (Answer.LEAK, Answer.GROWING)}
    if answer in wanted[failing]:
        raise typer.Exit(EXIT_FOUND)
