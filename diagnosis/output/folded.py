"""Folded stacks, one line each, as flame graph viewers read them."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from diagnosis.report.report import Target
    from diagnosis.target.symbols import Frame


def folded(target: Target, stacks: Iterable[tuple[tuple[Frame, ...], int]]) -> Iterator[str]:
    """``command;outermost;...;innermost BYTES`` for every stack that holds something."""
    command = _name(PurePosixPath(target.command.split(" ", 1)[0]).name)
    for frames, size in stacks:
        if size > 0:
            names = [_name(frame.name) for frame in reversed(frames)]
            yield f"{';'.join([command, *names])} {size}"


def _name(text: str) -> str:
    """The separator of the format cannot be part of a name."""
    return text.replace(";", ":")
