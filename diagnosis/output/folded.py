"""Folded stacks, one line each, as flame graph viewers read them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from diagnosis.report.report import Target
    from diagnosis.target.symbols import Frame


def folded(target: Target, stacks: Iterable[tuple[tuple[Frame, ...], int]]) -> Iterator[str]:
    """``command;outermost;...;innermost BYTES`` for every stack that holds something, the largest first.

    Identical lines are one.
    """
    command = _name(short_command(target))
    sizes: defaultdict[str, int] = defaultdict(int)
    for frames, size in stacks:
        if size > 0:
            names = [_name(_shown(frame)) for frame in reversed(frames)]
            sizes[";".join([command, *names])] += size
    for line, size in sorted(sizes.items(), key=lambda item: -item[1]):
        yield f"{line} {size}"


def _shown(frame: Frame) -> str:
    """A function; one of Python, whose names are short and many, with its place."""
    return f"{frame.name} ({frame.file_name}:{frame.line})" if frame.python else frame.name


def _name(text: str) -> str:
    """The separator of the format cannot be part of a name."""
    return text.replace(";", ":")


def short_command(target: Target) -> str:
    """The program's name without its folder and arguments."""
    return PurePosixPath(target.command.split(" ", 1)[0]).name
