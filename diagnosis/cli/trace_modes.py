"""Which of the options of `trace` do something in which of its modes. What does nothing is refused, and not ignored."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.base.own_command import own_command
from diagnosis.cli.formats import FailOn, Format
from diagnosis.cli.options import is_given, refuse_together

if TYPE_CHECKING:
    from collections.abc import Iterator

    import typer


class Mode(enum.StrEnum):
    """What `trace` does, by the option that asks for it."""

    EXACT = ""
    LIGHT = "--light"
    EXPLAIN = "--explain"


_BOTH = frozenset({Mode.LIGHT, Mode.EXPLAIN})
_EXPLAIN = frozenset({Mode.EXPLAIN})

# The modes beside the exact one in which an option may stand: for the exact one, all options are. --explain goes with
# what only sets how a trace is taken, so that it can be added to a line: --duration and such have no effect then.
_ACCEPTED = {
    "command": _BOTH,  # refused by the target, which says what to do instead
    "pid": _BOTH,
    "container": _BOTH,
    "pod": _BOTH,
    "unwind": _BOTH,
    "duration": _BOTH,
    "top": _BOTH,
    "smallest": _BOTH,
    "min_size": _EXPLAIN,
    "max_blocks": _EXPLAIN,
    "max_rate": _EXPLAIN,
    "pair": _EXPLAIN,
    "allocator": _EXPLAIN,
    "at_entry": _EXPLAIN,
    "explain": _EXPLAIN,
    "output": frozenset({Mode.LIGHT}),
    "failing": frozenset({Mode.LIGHT}),
    "light": frozenset({Mode.LIGHT}),
}


def choose_mode(context: typer.Context) -> Mode:
    """The mode that the options on the command line ask for.

    Raises:
        LabError: one of them does nothing in it.
    """
    mode = Mode.LIGHT if context.params["light"] else Mode.EXPLAIN if context.params["explain"] else Mode.EXACT
    if mode is Mode.EXACT:
        return mode
    useless = dict.fromkeys(_useless(context, mode), True)
    if mode is Mode.LIGHT:
        if "--children" in useless:
            raise LabError(
                "--children does nothing with --light, which looks at one process",
                f"see which of them grows: {own_command()} watch; then trace that one: --light --pid P",
            )
        if context.params["failing"] is FailOn.LEAK:
            raise LabError("--light sees no frees, and never says leak", "use --fail-on growth with --light")
        output = context.params["output"]
        useless[f"--format {output}"] = output in {Format.PPROF, Format.SPEEDSCOPE}
    refuse_together(mode, True, useless)
    return mode


def _useless(context: typer.Context, mode: Mode) -> Iterator[str]:
    """The options that were given and do nothing in a mode."""
    for parameter in context.command.params:
        name = parameter.name or ""
        if is_given(context, name) and mode not in _ACCEPTED.get(name, ()):
            yield parameter.opts[0]
