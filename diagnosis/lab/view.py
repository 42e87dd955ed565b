"""What a run shows meanwhile: claims beside kernel truth, live on a terminal or as plain lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from rich.columns import Columns
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from diagnosis.base.units import format_duration, format_size

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from diagnosis.lab.claims import Claims

# A line this often, in seconds, where there is no live view.
PLAIN_SECONDS = 5.0


@dataclass(frozen=True)
class Moment:
    """One moment of the lab. Times in seconds, ``story`` by the service's clock, sizes in bytes.

    ``ledger_bytes`` are those that the leaker's ledger says were never freed.
    """

    seconds: float
    story: float
    story_end: float
    phase: str
    claims: Claims
    resident_bytes: int
    resident_growth: int
    step: str
    ledger_bytes: int = 0


class View(Protocol):
    """Where a run shows its moments."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, moment: Moment) -> None:
        """Show one moment."""

    def say(self, text: str) -> None:
        """Print a line that stays."""


class PlainView:
    """Lines, for a file, a pipe or a screen reader."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0
        self._last = ("", "")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, moment: Moment) -> None:
        """A line every few seconds, and at each change of phase or step."""
        change = (moment.phase, moment.step)
        if moment.seconds < self._next and change == self._last:
            return
        self._next, self._last = moment.seconds + PLAIN_SECONDS, change
        claims = moment.claims
        self.say(
            f"{format_duration(moment.story):>8} {moment.phase:<9} {moment.step:<9}"
            f" it claims: {claims.status}, {claims.memory_usage_percent:.1f} %,"
            f" {format_size(claims.resident_bytes)} resident"
            f" | the kernel knows: {format_size(moment.resident_bytes)} resident,"
            f" {format_size(moment.resident_growth)} more than at the start"
            f" | lookup {claims.lookup_seconds * 1000:.2f} ms"
        )

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)


class LiveView:
    """Two panels and a progress bar, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=8, transient=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, moment: Moment) -> None:
        """Redraw."""
        self._live.update(draw(moment))

    def say(self, text: str) -> None:
        """A line above the panels."""
        self._live.console.print(Text(text))


def draw(moment: Moment) -> Group:
    """The picture of one moment."""
    claims = moment.claims
    good = "green" if claims.status == "healthy" else "red"
    claimed = _table(
        ("status", Text(claims.status, style=f"bold {good}")),
        ("memory", f"{claims.memory_usage_percent:.1f} % of the limit"),
        ("resident", format_size(claims.resident_bytes)),
        *((Text(name.replace("_", " ")), Text(result, style=good)) for name, result in claims.health_checks.items()),
    )
    known = _table(
        ("resident", Text(format_size(moment.resident_bytes), style="bold")),
        ("since the start", Text(f"+{format_size(moment.resident_growth)}", style="bold red")),
        ("not in its claims", format_size(moment.resident_bytes - claims.resident_bytes)),
        ("lookup", f"{claims.lookup_seconds * 1000:.2f} ms"),
    )
    of_all = f" of {format_duration(moment.story_end)}" if moment.story < moment.story_end else ""
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        format_duration(moment.story) + of_all,
        ProgressBar(total=moment.story_end, completed=min(moment.story, moment.story_end), width=30),
        Text(moment.phase, style="bold"),
        moment.step,
    )
    return Group(
        Columns(
            [Panel(claimed, title="what it claims", width=39), Panel(known, title="what the kernel knows", width=39)]
        ),
        bar,
    )


def _table(*rows: tuple[str | Text, str | Text]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(name, value)
    return table
