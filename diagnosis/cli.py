"""The command ``memleak-lab``."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from catalog_cache import Options
from rich.console import Console

from diagnosis import ledger as ledgers
from diagnosis.errors import LabError
from diagnosis.grade import grade_function, grade_rate
from diagnosis.lab import RunOptions, run
from diagnosis.preflight import Machine, check_machine
from diagnosis.tables import print_checks, print_report
from diagnosis.units import parse_duration, parse_size
from diagnosis.unprivileged import choose_user
from diagnosis.view import LiveView, PlainView

if TYPE_CHECKING:
    from collections.abc import Callable

    from diagnosis.grade import Grade
    from diagnosis.preflight import Check

EXIT_WRONG = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

DEFAULT_LEDGER = "http://127.0.0.1:9091/ledger"
LONGEST_WINDOW_SECONDS = 86_400.0
SHORTEST_WINDOW_SECONDS = 1.0

app = typer.Typer(
    help="Find a native memory leak with eBPF, and hold the diagnosis against the truth.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _typed(parse: Callable[[str], float]) -> Callable[[str], Any]:
    def convert(text: str) -> float:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return convert


def _size_option(*names: str, text: str) -> Any:  # noqa: ANN401 - typer's own type
    return typer.Option(*names, parser=_typed(parse_size), metavar="SIZE", help=text)


def _duration_option(*names: str, text: str) -> Any:  # noqa: ANN401
    return typer.Option(*names, parser=_typed(parse_duration), metavar="TIME", help=text)


@app.command("run")
def run_command(
    *,
    speed: Annotated[
        float, typer.Option(help="The story runs this many times faster than real time: 0.1 to 1000.")
    ] = 60.0,
    duration: Annotated[
        float,
        _duration_option("--duration", text="The story's time before the trace: 1h of it takes a minute at speed 60."),
    ] = "1h",  # type: ignore[assignment] # typer parses the default as it parses the option
    window: Annotated[float, _duration_option("--window", text="How long to trace, in real time.")] = "10s",  # type: ignore[assignment]
    chunk: Annotated[
        int, _size_option("--chunk", text="Size of one leaked block: 4KiB to 1MiB, a divisor of 1MiB.")
    ] = "64KiB",  # type: ignore[assignment]
    cap: Annotated[
        int, _size_option("--cap", text="The leak stops at this size; 0 is a service without a leak.")
    ] = "2000MiB",  # type: ignore[assignment]
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write the report here.", dir_okay=False)
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a live view.")] = False,
) -> None:
    """Run the whole lab on this machine: the leak, the denial, the diagnosis and the truth."""
    try:
        Options(speed=speed, chunk_bytes=chunk, cap_bytes=cap)
    except ValueError as error:
        raise LabError(str(error), "see: memleak-lab run --help") from error
    if not SHORTEST_WINDOW_SECONDS <= window <= LONGEST_WINDOW_SECONDS:
        raise LabError(
            f"--window is {window:g} s: it must be from {SHORTEST_WINDOW_SECONDS:g} to {LONGEST_WINDOW_SECONDS:g} s",
            "try --window 10s",
        )
    if report is not None and not os.access(report.resolve().parent, os.W_OK):
        raise LabError(f"--report {report}: its folder cannot be written", f"mkdir -p {report.parent}")
    console = Console()
    machine = Machine()
    _require(check_machine(machine))
    user = choose_user(machine.environ, machine.euid)
    view = LiveView(console) if console.is_terminal and not plain else PlainView(console)
    outcome = run(RunOptions(speed, duration, window, chunk, cap), user, view)
    print_report(console, outcome.report)
    if report is not None:
        report.write_text(outcome.report.to_json())
    _conclude(console, outcome.grade)


@app.command()
def doctor() -> None:
    """Say what this machine lacks, with a remedy for each."""
    checks = check_machine(Machine())
    print_checks(Console(), checks)
    if not all(check.ok for check in checks):
        raise typer.Exit(EXIT_WRONG)


@app.command()
def verify(
    answer: Annotated[str, typer.Argument(help="A report file, or the name of a function.", metavar="ANSWER")],
    ledger: Annotated[str, typer.Option(help="The service's ledger.", metavar="URL")] = DEFAULT_LEDGER,
) -> None:
    """Compare an answer with the leaker's own ledger: right or wrong, and by how much."""
    client = ledgers.LedgerClient(ledger)
    try:
        reading = client.read()
    finally:
        client.close()
    path = Path(answer)
    if path.suffix == ".json" or path.exists():
        function, rate = _read_answer(path)
        _conclude(Console(), grade_rate(function, rate, reading))
    else:
        _conclude(Console(), grade_function(answer, reading))


def _read_answer(path: Path) -> tuple[str, float]:
    """The named function and its bytes per minute."""
    try:
        report = json.loads(path.read_text())
        verdict = report["verdict"]
        function = str(verdict["function"])
        rates = [
            float(stack["bytes_per_minute"])
            for stack in report["stacks"]
            if stack["frames"] and stack["frames"][0]["function"] == function
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(f"{path} is no report: {error}", "write one with: memleak-lab run --report FILE.json") from error
    if not verdict["leak"]:
        raise LabError(f"{path} names no function: it found no leak", "trace the leaking process, and for longer")
    return function, sum(rates)


def _require(checks: list[Check]) -> None:
    for check in checks:
        if not check.ok:
            raise LabError(f"{check.name}: {check.found}", check.remedy)


def _conclude(console: Console, result: Grade) -> None:
    console.print(result.text, style="bold green" if result.right else "bold red", highlight=False, soft_wrap=True)
    if not result.right:
        raise typer.Exit(EXIT_WRONG)


def _interrupt(number: int, frame: object) -> None:
    """SIGTERM and SIGHUP end a run the way Ctrl-C does: by unwinding, so that nothing is left behind."""
    del number, frame
    raise KeyboardInterrupt


def main() -> None:
    """Run the command. Exit status 0: done and right; 1: wrong or missing; 2: it could not be done; 130: stopped."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        status = app(standalone_mode=False)
    except LabError as error:
        sys.stderr.write(f"memleak-lab: {error}\n")
        sys.exit(EXIT_USAGE)
    except typer._click.exceptions.ClickException as error:  # noqa: SLF001
        sys.stderr.write(f"memleak-lab: {error.format_message()}\n")
        sys.exit(EXIT_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("memleak-lab: interrupted: everything it started is gone\n")
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(status or 0)
