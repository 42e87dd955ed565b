"""Reports as folded stacks, one line each, as flame graph viewers read them."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis.report import Report


def folded(report: Report) -> Iterator[str]:
    """``command;outermost;...;innermost BYTES`` for every stack that holds something."""
    command = PurePosixPath(report.target.command.split(" ", 1)[0]).name
    for stack in report.stacks:
        if stack.outstanding_bytes > 0:
            # The separators of the format cannot be part of a name.
            names = [frame.name.replace(";", ":") for frame in reversed(stack.frames)]
            yield f"{';'.join([command, *names])} {stack.outstanding_bytes}"
