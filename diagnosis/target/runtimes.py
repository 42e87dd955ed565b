"""Runtimes that write their code at run time, and how each is made to name it in a perf map."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Runtime:
    """One runtime.

    Attributes:
        code: what it writes, in words.
        files: the name of a file that it, and nothing else, has mapped.
        no_map: what to do where it has written no map, with ``{pid}``.
        old_map: what to do where its map lacks names; "" where it adds them by itself.
    """

    code: str
    files: re.Pattern[str]
    no_map: str
    old_map: str = ""


_JCMD: Final = "type `jcmd {pid} Compiler.perfmap` (JDK 17 or later) and trace again"
RUNTIMES: Final = (
    Runtime(
        "code that Java compiled",
        re.compile(r"libjvm\.so"),
        f"{_JCMD}; start Java with -XX:+PreserveFramePointer, or compiled callers are left out of stacks",
        f"it was compiled after its perf map was written: {_JCMD}",
    ),
    Runtime(
        "code that Node compiled",
        re.compile(r"node(js)?|libnode\.so[.\d]*"),
        "start it with `node --perf-basic-prof` and trace again",
    ),
)


def unnamed_code(files: Iterable[str], pid: int, *, has_map: bool) -> tuple[str, str] | None:
    """Whose code it is that has no name, and what to do; None where no known runtime can name more than it did.

    Args:
        files: the names of the files that the process has mapped as code.
        pid: the process.
        has_map: whether there is a perf map of it.
    """
    names = set(files)
    for runtime in RUNTIMES:
        if any(runtime.files.fullmatch(name) for name in names):
            remedy = runtime.old_map if has_map else runtime.no_map
            return (runtime.code, remedy.format(pid=pid)) if remedy else None
    return None
