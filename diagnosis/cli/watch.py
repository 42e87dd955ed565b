"""``memleak-lab watch``: find the process to trace."""

import time
from typing import Annotated

import typer
from rich.console import Console

from diagnosis.cli.options import check_window, duration_option, require_machine
from diagnosis.doctor.preflight import Machine
from diagnosis.faults.watch import all_pids, watch
from diagnosis.output.tables import print_watch, report_console
from diagnosis.target.targets import pids_of_named_container


def watch_command(
    *,
    container: Annotated[
        str | None, typer.Option(metavar="NAME", help="Watch this container of Docker or containerd only.")
    ] = None,
    duration: Annotated[float, duration_option("--duration", text="How long to watch.")] = "20s",  # type: ignore[assignment] # typer parses it
    top: Annotated[int, typer.Option(min=1, max=100, help="Show this many processes.")] = 5,
) -> None:
    """Watch all processes of this machine: which ones grow, and in which code. It has no measurable cost."""
    check_window("--duration", duration)
    require_machine(Machine())
    pids = all_pids if container is None else lambda: pids_of_named_container(container)
    Console(stderr=True).print(f"watching for {duration:g} s", highlight=False)
    print_watch(report_console(), watch(pids, duration, top, time.sleep))
