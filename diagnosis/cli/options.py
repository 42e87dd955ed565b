"""The options that several commands share, and how their values are read."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import typer
from heap_trace import TraceError

from diagnosis.base.errors import LabError
from diagnosis.base.units import parse_duration, parse_size
from diagnosis.doctor.preflight import check_machine
from diagnosis.target.custom_allocator import parse_allocator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from diagnosis.doctor.preflight import Machine

LONGEST_WINDOW_SECONDS = 86_400.0
SHORTEST_WINDOW_SECONDS = 1.0
# As --help says it.
WINDOWS = f"{SHORTEST_WINDOW_SECONDS:g}s to {LONGEST_WINDOW_SECONDS / 3600:g}h"


def _typed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:  # noqa: ANN401 - what the option holds
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return convert


def size_option(*names: str, text: str) -> Any:  # noqa: ANN401 - typer's own type
    """An option whose value is a size in bytes."""
    return typer.Option(*names, parser=_typed(parse_size), metavar="SIZE", help=text)


def duration_option(*names: str, text: str) -> Any:  # noqa: ANN401
    """An option whose value is a duration in seconds."""
    return typer.Option(*names, parser=_typed(parse_duration), metavar="TIME", help=text)


def allocator_option(*names: str, text: str) -> Any:  # noqa: ANN401
    """An option whose value is an allocator's functions, by symbol."""
    return typer.Option(*names, parser=_typed(parse_allocator), metavar="FUNCTIONS", help=text)


def html_option() -> Any:  # noqa: ANN401
    """The option for the page: the same for every command that has a report."""
    text = "Write the report here as one HTML file, with flame graph and time lines, that opens without a network."
    return typer.Option("--html", metavar="FILE.html", help=text, dir_okay=False)


def check_window(name: str, seconds: float) -> None:
    """Raise a LabError where a window cannot be that long."""
    if not SHORTEST_WINDOW_SECONDS <= seconds <= LONGEST_WINDOW_SECONDS:
        raise LabError(
            f"{name} is {seconds:g} s: it must be from {SHORTEST_WINDOW_SECONDS:g} to {LONGEST_WINDOW_SECONDS:g} s",
            f"try {name} 10s",
        )


def refuse_together(name: str, given: object, others: Mapping[str, object]) -> None:
    """Raise a LabError for options that do nothing beside one that is given."""
    useless = [other for other, value in others.items() if value]
    if given and useless:
        raise LabError(f"{useless[0]} does nothing with {name}", f"leave {useless[0]} out, or {name}")


def is_given(context: typer.Context, name: str) -> bool:
    """True where an option, by its parameter's name, is on the command line: also with the value of its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def given_options(context: typer.Context, *names: str) -> dict[str, bool]:
    """Which of some options are on the command line, by what they are called there."""
    parameters = {each.name: each.opts[0] for each in context.command.params}
    return {parameters[name]: is_given(context, name) for name in names}


def refuse_without(needed: str, given: object, others: Mapping[str, object], remedy: str = "") -> None:
    """Raise a LabError for options that do nothing where another one is missing."""
    useless = [other for other, value in others.items() if value]
    if not given and useless:
        raise LabError(f"{useless[0]} does nothing without {needed}", remedy or f"add {needed}, or leave it out")


def require_machine(machine: Machine, *, loads: bool = True) -> None:
    """Raise a LabError for the first thing that this machine lacks."""
    for check in check_machine(machine, loads=loads):
        if not check.ok:
            raise LabError(f"{check.name}: {check.found}", check.remedy)


@contextlib.contextmanager
def on_a_machine_that_can(machine: Machine) -> Iterator[None]:
    """Check the machine before something that loads an eBPF program, and that it loads one only where that failed.

    The kernel takes a second to verify the program: once is enough where it is taken.

    Raises:
        LabError: the first thing that this machine lacks, or what went wrong on one that lacks nothing.
    """
    require_machine(machine, loads=False)
    try:
        yield
    except (LabError, TraceError, ImportError) as error:
        if isinstance(error.__cause__ or error, (TraceError, ImportError)):
            require_machine(machine)
        raise
