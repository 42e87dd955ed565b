"""A task: what checks it, what answers it, and what a check says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from diagnosis.base.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from diagnosis.base.errors import LabError
    from diagnosis.learn.state import State
    from diagnosis.output.document import Capture

__all__ = ["Bench", "Outcome", "Task", "no", "number_in", "size_in", "yes"]

# No pid and no line has as many.
MOST_DIGITS = 20


class Bench(Protocol):
    """What a learner works on.

    ``not_started``: why the learner's last build does not start, until that was said.
    """

    not_started: LabError | None

    @property
    def state(self) -> State:
        """How far the learner has come."""

    @property
    def folder(self) -> Path:
        """The learner's files."""

    @property
    def before(self) -> Path:
        """Where the capture of the service as it came is kept."""

    @property
    def cli(self) -> str:
        """How this program is called in another terminal."""

    @property
    def page_of_texts(self) -> str:
        """The table of its first page, in the catalogs."""

    @property
    def source(self) -> Path:
        """The C file that the learner edits: a copy, made when it is first asked for."""

    @property
    def going_on(self) -> str:
        """The line that goes on with these files."""

    def values(self) -> dict[str, object]:
        """What texts name: addresses, files, commands."""

    def ensure(self) -> bool:
        """Start what has ended anew; True where that was so."""

    def unfix(self) -> None:
        """Start the service without the learner's fix; the files stay as they are edited."""

    def apply_fix(self) -> None:
        """Apply the shipped patch to the learner's copy.

        Raises:
            LabError: it does not fit what was edited.
        """


B = TypeVar("B", bound=Bench)


@dataclass(frozen=True)
class Outcome:
    """What a check says: whether the task is done, and the message that says why, with its values.

    ``captures`` are to be shown beside each other.
    """

    passed: bool
    key: str
    values: Mapping[str, object] = field(default_factory=dict)
    captures: tuple[Capture, Capture] | None = None


@dataclass(frozen=True)
class Task(Generic[B]):
    """One task: its texts are in the catalogs by its name.

    Attributes:
        name: the table of its messages.
        check: compares what was typed, as words, with what is so.
        sealed: the values of its answer.
        command: what answers it, to be typed in another terminal: the last hint.
        hints: how many there are.
    """

    name: str
    check: Callable[[B, Sequence[str]], Outcome]
    sealed: Callable[[B], Mapping[str, object]]
    command: Callable[[B], str]
    hints: int


def no(key: str, **values: object) -> Outcome:
    """The task is not done."""
    return Outcome(passed=False, key=key, values=values)


def yes(**values: object) -> Outcome:
    """It is done."""
    return Outcome(passed=True, key="right", values=values)


def number_in(digits: str) -> int:
    """A whole number that was typed; one that is longer than any that is meant is cut, for no check holds for it."""
    return int(digits[:MOST_DIGITS])


def size_in(words: Sequence[str]) -> int | None:
    """A size among words: 31.2 MiB, 31MiB, 32000 kB, 32212254; None where there is none."""
    text = re.sub(r"(?i)\bkb\b|(?<=\d)kb\b", "KiB", " ".join(words))
    found = re.search(r"(?i)\d[\d.,]*\s*(?:[kmg]i?b?\b|b\b)?", text)
    try:
        cleaned = re.sub(r"(?i)([kmg])b\b", r"\1ib", found[0].replace(",", "")) if found else ""
        return parse_size(cleaned)
    except ValueError:
        return None
