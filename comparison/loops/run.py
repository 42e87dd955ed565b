"""What one run of a contestant says, and how its stacks are judged."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.target.start import START_FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from comparison.tools.tool import Row

# Of stacks that are whole; C libraries differ in what they show of it.
STARTS = START_FUNCTIONS | {"__libc_start_main_alias_2", "__libc_start_main_impl", "clone", "_start_thread"}


@dataclass(frozen=True)
class Run:
    """One contestant on one load.

    Attributes:
        figure: the load's.
        kept: the bytes that the load kept, 0 where it does not know.
        found: the bytes that the tool found of them; None where it counts no blocks.
        named: the share of the bytes that it reports under whole stacks through one of the load's own functions; None
            where it has none.
        events: how many calls it counted; 0 where it does not say.
        rows: the stacks that it reported.
    """

    figure: float
    kept: int
    found: int | None
    named: float | None = None
    events: int = 0
    rows: tuple[Row, ...] = ()


def is_named(functions: Sequence[str], own: Collection[str], starts: Collection[str] = STARTS) -> bool:
    """Whether a stack goes to where its thread starts, and through one of a program's own functions."""
    bare = {bare_name(function) for function in functions}
    return not bare.isdisjoint(own) and not bare.isdisjoint(starts)


def named_share(rows: Sequence[Row], own: Collection[str], starts: Collection[str] = STARTS) -> float | None:
    """The share of the bytes that a tool reports which lie under such stacks, from 0 to 1; None without a function."""
    if not own:
        return None
    total = sum(row.outstanding_bytes for row in rows)
    named = sum(row.outstanding_bytes for row in rows if is_named(row.functions, own, starts))
    return named / total if total else 0.0


def innermost_of_largest(rows: Sequence[Row], keeper: str) -> str:
    """What a tool names for the most bytes: the function that keeps them if their stack has it, else the innermost."""
    largest = max(rows, key=lambda row: row.outstanding_bytes, default=None)
    if largest is None or not largest.functions:
        return ""
    return keeper if keeper in map(bare_name, largest.functions) else largest.functions[0]


def bare_name(function: str) -> str:
    """A function's name without arguments, versions and what a tool adds behind it."""
    return re.split(r"[(@ ]|\.(?:constprop|isra|part|cold)", function.strip(), maxsplit=1)[0]
