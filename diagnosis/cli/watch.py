"""``memleak-lab watch``: find the process to trace."""

import enum
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Annotated

import typer
from rich.live import Live

from diagnosis.cli.formats import emit
from diagnosis.cli.options import WINDOWS, check_window, duration_option, on_a_machine_that_can
from diagnosis.cli.signals import stop_on_signals
from diagnosis.doctor.preflight import Machine
from diagnosis.faults.watch import Growth, all_pids, watch
from diagnosis.output.tables import error_console, report_console
from diagnosis.output.watched import growth_table, print_watch
from diagnosis.target.targets import pids_of_named_container


class WatchFormat(enum.StrEnum):
    """How what was watched is printed."""

    TABLE = "table"
    JSON = "json"


def watch_command(
    *,
    container: Annotated[
        str | None, typer.Option(metavar="NAME", help="Watch this container of Docker or containerd only.")
    ] = None,
    duration: Annotated[float, duration_option("--duration", text=f"How long to watch: {WINDOWS}.")] = "20s",  # type: ignore[assignment] # typer parses it
    top: Annotated[int, typer.Option(min=1, max=100, help="Show this many processes.")] = 5,
    output: Annotated[WatchFormat, typer.Option("--format", help="How to print it.")] = WatchFormat.TABLE,
) -> None:
    """Watch all processes of this machine: which ones grow, and in which code. No process gets a probe."""
    check_window("--duration", duration)

    def pids() -> list[int]:
        return all_pids() if container is None else pids_of_named_container(container)

    with on_a_machine_that_can(Machine()), ExitStack() as stack:
        pids()  # a container that does not run is an error before anything is watched
        errors = error_console()
        errors.print(f"watching for {duration:g} s, or until Ctrl-C", highlight=False)
        stopped = stop_on_signals()
        # What refreshes goes to standard error as well: the result can be piped on.
        look = None
        if errors.is_terminal:
            live = stack.enter_context(Live(console=errors, transient=True))

            def look(growing: Sequence[Growth]) -> None:
                live.update(growth_table(growing, errors.width))

        watched = watch(pids, duration, top, stopped.wait, look=look)
    if output is WatchFormat.JSON:
        emit(json.dumps(asdict(watched), indent=2) + "\n")
    else:
        print_watch(report_console(), watched)
