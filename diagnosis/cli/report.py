"""``memleak-lab report``: open saved reports again, and compare two."""

from pathlib import Path
from typing import Annotated, Any

import typer

from diagnosis.base.errors import LabError
from diagnosis.cli.formats import FailOn, Format, check_writable, fail_on, print_capture, refuse_terminal, write_page
from diagnosis.cli.options import html_option
from diagnosis.cli.origin import LEAK_SOURCES
from diagnosis.output.comparison import print_comparison
from diagnosis.output.document import Capture
from diagnosis.output.html_report.contents import Shown, one_report, two_reports
from diagnosis.output.saved import read_capture
from diagnosis.output.tables import report_console


def report_command(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="A saved report; two are compared, the older first."),
    ],
    *,
    output: Annotated[Format, typer.Option("--format", help="How to print one report.")] = Format.TABLE,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Print this many call stacks, or call sites.")] = 5,
    everything: Annotated[bool, typer.Option("--all", help="Also the stacks that hold nothing.")] = False,
    html: Annotated[Path | None, html_option()] = None,
    failing: Annotated[
        FailOn | None, typer.Option("--fail-on", help="Exit with status 3 if the (last) report found this.")
    ] = None,
) -> None:
    """Open a report that `trace --save` or `run --report` kept; two are compared, as before and after a fix."""
    if len(files) > 2:
        raise LabError(f"{len(files)} reports cannot be compared", "name one, or two")
    if len(files) == 2 and output is not Format.TABLE:
        raise LabError(f"two reports have no --format {output}", "name one file, or leave --format out")
    refuse_terminal(output)
    _check_not_read(html, files)
    check_writable({"--html": html})
    captures = [read_capture(path) for path in files]
    failed = write_page(html, lambda: _page(captures))
    if len(captures) == 2:
        print_comparison(report_console(), captures[0], captures[1], top)
    else:
        print_capture(captures[0], output, top=top, everything=everything)
    if failed:
        raise failed[0]
    fail_on(captures[-1].report.verdict.answer, failing)


def _check_not_read(html: Path | None, files: list[Path]) -> None:
    if html and any(html.resolve() == each.resolve() for each in files if each.is_file()):
        raise LabError(f"--html {html}: this is a report that is to be read", "name another file, such as report.html")


def _page(captures: list[Capture]) -> dict[str, Any]:
    """The contents of the page of `--html`."""
    if len(captures) == 2:
        return two_reports(captures[0], captures[1], LEAK_SOURCES)
    return one_report(Shown(captures[0], sources=LEAK_SOURCES))
