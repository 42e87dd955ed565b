"""Lines of source around a frame, where its file is on this machine.

The path comes from the traced program's debug information, and so does the line: whatever they say, only files that are
named like source and that everybody may read are shown: a program cannot have root print what is root's alone.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnosis.target.symbols import Frame

SUFFIXES = frozenset(
    {
        ".c",
        ".cc",
        ".cpp",
        ".cxx",
        ".c++",
        ".h",
        ".hh",
        ".hpp",
        ".hxx",
        ".rs",
        ".go",
        ".zig",
        ".d",
        ".f90",
        ".pyx",
        ".py",
    }
)
AROUND = 1
LARGEST_FILE_BYTES = 8 << 20
WIDTH = 100


def source_lines(frame: Frame, folders: Sequence[Path] = (), traced: float | None = None) -> list[tuple[int, str]]:
    """The line of a frame and its neighbours, by number; none where the file cannot be shown.

    Args:
        frame: whose line.
        folders: where files are looked for whose path in the debug information is not whole.
        traced: when the trace was, in seconds of 1970: of a file that was changed later no line is shown.
    """
    named = Path(frame.file)
    if not frame.line or named.suffix not in SUFFIXES:
        return []
    if named.is_absolute():
        return _lines_around(named, frame.line, traced)
    below = (folder / named for folder in folders if ".." not in named.parts)
    return next((lines for path in below if (lines := _lines_around(path, frame.line, traced))), [])


def _lines_around(path: Path, line: int, traced: float | None) -> list[tuple[int, str]]:
    try:
        text = _text_of(path.resolve(strict=True), traced)
    except (OSError, ValueError):  # ValueError: a path with a null byte
        return []
    lines = text.split("\n") if text is not None else []
    if line > len(lines):
        return []
    shown = range(max(1, line - AROUND), min(len(lines), line + AROUND) + 1)
    return [(number, _printable(lines[number - 1])) for number in shown]


def _text_of(real: Path, traced: float | None) -> str | None:
    """The text of a file that may be shown; None of any other. What was opened is looked at: names can change."""
    descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        readable = stat.S_ISREG(found.st_mode) and bool(found.st_mode & stat.S_IROTH)
        if not readable or real.suffix not in SUFFIXES or (traced is not None and found.st_mtime > traced):
            return None
        text = file.read(LARGEST_FILE_BYTES + 1)
    return text.decode(errors="replace") if len(text) <= LARGEST_FILE_BYTES else None


def _printable(line: str) -> str:
    """One line of a source, without what would move a terminal's cursor."""
    text = line.expandtabs(4).rstrip()
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)[:WIDTH]
