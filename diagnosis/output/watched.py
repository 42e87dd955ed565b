"""What `watch` found, as text: a table that refreshes, and the result with its code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from diagnosis.base.own_command import own_command
from diagnosis.base.units import format_size
from diagnosis.output.tables import print_prose, print_touched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from diagnosis.faults.watch import Growth, Watch

# What the columns beside the command take of a line.
COLUMNS_WIDTH = 40

# A command in the result: what tells one process from another, and not all that it was started with.
COMMAND_WIDTH = 100

# Of a process that was not there when the window began.
BEGAN = ", which it has taken since it began within the window"


def growth_table(growing: Sequence[Growth], width: int) -> Table:
    """The processes that grew most so far; commands are cut to the width of the terminal."""
    table = Table(box=None, padding=(0, 1))
    for name in ("pid", "grew by", "holds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("command", no_wrap=True)
    for each in growing:
        command = cut(each.command, width - COLUMNS_WIDTH)
        table.add_row(str(each.pid), format_size(each.growth_bytes), format_size(each.held_bytes), Text(command))
    return table


def cut(text: str, width: int) -> str:
    """The start of a text that fits."""
    return text if len(text) <= width else text[: max(1, width - 1)] + "…"


def print_watch(console: Console, watched: Watch) -> None:
    """The processes that grew, with their code, and the command that traces the first of them."""
    for grower in watched.growers:
        since = BEGAN if grower.began else ""
        console.print(
            f"pid {grower.pid} grew by {format_size(grower.growth_bytes)}"
            f" ({format_size(grower.growth_bytes / watched.seconds * 60)} a minute)"
            f" to {format_size(grower.resident_bytes)}{since}: {cut(grower.command, COMMAND_WIDTH)}",
            style="bold",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
        for stack in grower.stacks:
            print_touched(console, stack)
        for note in grower.notes:
            print_prose(console, note, "dim")
    lost = f", {watched.lost:,} samples were lost" if watched.lost else ""
    console.print(
        f"{watched.processes:,} processes, {watched.faults:,} page faults{lost}", style="dim", highlight=False
    )
    if watched.growers:
        line = f"{own_command()} trace --pid {watched.growers[0].pid}"
    else:
        line = f"No process grew. Watch for longer: {own_command()} watch --duration 10m"
    console.print(line, highlight=False, soft_wrap=True, markup=False)  # it is pasted
