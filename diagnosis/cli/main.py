"""The command ``memleak-lab``."""

import contextlib
import io
import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from diagnosis.base.errors import LabError
from diagnosis.base.files import allow_descriptors, open_streams
from diagnosis.cli.formats import emit
from diagnosis.cli.learn import learn_command
from diagnosis.cli.options import given_options, refuse_together, refuse_without
from diagnosis.cli.origin import tool_version
from diagnosis.cli.report import report_command
from diagnosis.cli.run import run_command
from diagnosis.cli.signals import take_signals
from diagnosis.cli.status import EXIT_INTERRUPTED, EXIT_UNSEEN, EXIT_USAGE, EXIT_WRONG, statuses_text
from diagnosis.cli.trace import trace_command
from diagnosis.cli.usage import usage_text
from diagnosis.cli.verify import verify_command
from diagnosis.cli.watch import watch_command
from diagnosis.doctor.preflight import Machine, check_parser, check_probes
from diagnosis.doctor.prerequisites import Way, check_way
from diagnosis.doctor.teardown_check import Teardown, all_seen, anything_left, check_names, print_findings
from diagnosis.output.tables import print_checks, report_console
from diagnosis.target.custom_allocator import EXAMPLE
from diagnosis.target.objects import shared_parser

app = typer.Typer(
    help="Find a native memory leak with eBPF, and check the diagnosis against exact counts.",
    epilog="Exit statuses:\n\n\b\n" + statuses_text(),
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("learn")(learn_command)
app.command("run")(run_command)
app.command("trace", epilog=f"An example of --allocator:\n\n\b\n'{EXAMPLE}'")(trace_command)
app.command("watch")(watch_command)
app.command("report")(report_command)
app.command("verify")(verify_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        emit(f"memleak-lab {tool_version()}\n")
        raise typer.Exit


@app.callback()
def main_options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Find a native memory leak with eBPF, and check the diagnosis against exact counts."""
    del version


@app.command()
def doctor(
    context: typer.Context,
    *,
    gone: Annotated[bool, typer.Option("--gone", help="Say what a teardown has left, and what removes it.")] = False,
    namespace: Annotated[str, typer.Option(metavar="NAME", help="With --gone: the stack's.")] = "memleak-demo",
    image: Annotated[str, typer.Option(metavar="NAME", help="With --gone: the stack's imageName.")] = "memleak-demo",
    way: Annotated[Way, typer.Option("--for", help="How the lab will run: what that needs.")] = Way.LAB,
) -> None:
    """Say what this machine lacks, with a remedy for each."""
    refuse_without("--gone", gone, given_options(context, "namespace", "image"))
    if gone:
        refuse_together("--gone", True, given_options(context, "way"))
        check_names(namespace, image)
        findings = Teardown(namespace, image).findings()
        print_findings(report_console(), findings)
        if anything_left(findings):
            raise typer.Exit(EXIT_WRONG)
        if not all_seen(findings):
            raise typer.Exit(EXIT_UNSEEN)
        return
    checks = check_way(way, Machine())
    if way is Way.LAB:
        checks.append(check_parser(shared_parser()))
        if all(check.ok for check in checks):
            checks += check_probes()
    print_checks(report_console(), checks)
    if not all(check.ok for check in checks):
        raise typer.Exit(EXIT_WRONG)


def _interrupt(number: int, frame: object) -> None:
    """SIGTERM and SIGHUP end a run the way Ctrl-C does: by unwinding, so that nothing is left behind."""
    del number, frame
    raise KeyboardInterrupt


def _broken_output() -> str:
    """What standard output is called where it is that which cannot be written; "" where that is not known."""
    try:
        sys.stdout.flush()  # what could not be written is in it still
    except (OSError, ValueError):
        return "standard output"
    return ""


def _fail(what: str) -> NoReturn:
    """End with one line; with none where ``what`` is "", for the help that was printed is the answer."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"memleak-lab: {what}\n" if what else "")
    try:
        sys.stdout.flush()
    except OSError:
        # Python would try to write what is left at its end, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(EXIT_USAGE)


def main() -> None:
    """Run the command. What its exit statuses mean: diagnosis/cli/status.py."""
    open_streams()
    allow_descriptors()
    take_signals((signal.SIGTERM, signal.SIGHUP), _interrupt)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name can hold what the terminal's character set has not
            stream.reconfigure(errors="backslashreplace")
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except LabError as error:
        _fail(str(error))
    except typer.TyperException as error:
        _fail(usage_text(error))
    except OSError as error:  # a disk that is full
        place = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else _broken_output()
        _fail(f"{place}: {error.strerror}" if place else str(error.strerror))
    except (KeyboardInterrupt, typer.Abort):
        status = EXIT_INTERRUPTED
    if status == EXIT_INTERRUPTED:  # which is also what typer makes of a KeyboardInterrupt
        sys.stderr.write("memleak-lab: interrupted: everything it started is gone\n")
    sys.exit(status or 0)
