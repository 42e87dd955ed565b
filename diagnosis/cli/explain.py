"""``memleak-lab trace --explain``: where each probe would go, and why; nothing is traced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis.base.units import format_size
from diagnosis.output.tables import print_placements
from diagnosis.target.allocator import find_allocators
from diagnosis.target.python import find_python
from diagnosis.target.unwinding import ProcessTables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heap_trace import Signature
    from rich.console import Console

    from diagnosis.target.process import Process


def explain_probes(
    console: Console, process: Process, custom: Mapping[str, Signature] | None, *, at_entry: bool, tables: bool
) -> None:
    """Print the probes of a process and the choices behind them.

    Args:
        console: where they are printed.
        process: the one that would be traced.
        custom: functions of an allocator of its own.
        at_entry: with each probe at its function's first instruction.
        tables: also what its unwind tables take.

    Raises:
        LabError: no allocator is found, or its files cannot be read.
    """
    print_placements(console, process.pid, find_allocators(process, custom, at_entry=at_entry))
    if tables:
        own = ProcessTables(process)
        used = own.needed
        console.print(
            f"unwind tables of {own.objects} object files: {used.rows:,} rows, {format_size(used.bytes)},"
            f" read in {own.seconds:.2f} s",
            highlight=False,
        )
    found = find_python(process)
    if found.interpreter:
        console.print(f"Python functions are named: Python {found.interpreter.version}", highlight=False)
    elif found.reason:
        console.print(f"Python functions are not named: {found.reason}", highlight=False)
