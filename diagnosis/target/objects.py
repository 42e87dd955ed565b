"""ELF files of a process: exported functions, and the ways between file offsets and the addresses that symbols use.

Nothing of them is read here: the parser does that, and its answers are checked.
"""

from __future__ import annotations

import atexit
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from diagnosis.base.errors import LabError
from diagnosis.base.rights import rights_remedy
from diagnosis.base.text import safe_text
from diagnosis.target.parser.answers import object_of, placement_of, symbols_of
from diagnosis.target.parser.client import Parser, ParserError
from diagnosis.target.parser.facts import CODE_BYTES, ElfObject, Export, Placement, Segment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from diagnosis.target.parser.answers import FileSymbols

__all__ = [
    "CODE_BYTES",
    "ElfObject",
    "Export",
    "FileState",
    "Placement",
    "Segment",
    "choose_instruction",
    "defines",
    "file_state",
    "find_symbols",
    "open_found",
    "open_regular",
    "read_code",
    "read_object",
    "shared_parser",
]

# A file's device, inode, size and time of its last change.
FileState = tuple[int, int, int, int]

_parser = Parser()
atexit.register(_parser.close)


def shared_parser() -> Parser:
    """The parser that every part of a command shares. It starts when something is asked of it."""
    return _parser


def file_state(path: Path, label: str) -> FileState:
    """Which file this is, and how it is now: one that is removed gives its number to the next one.

    Raises:
        LabError: it cannot be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise LabError(
            f"{label} cannot be read: {error.strerror}", rights_remedy(error, "restart the process")
        ) from error
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns


def open_regular(path: Path) -> int:
    """A descriptor of a regular file. Nothing else is opened: a device or a pipe acts when it is.

    Raises:
        OSError: there is no such file, or it is none.
    """
    return open_found(os.open(path, os.O_PATH | os.O_CLOEXEC))


def open_found(found: int) -> int:
    """A descriptor of a regular file that was found: one without access, which is closed.

    Raises:
        OSError: it is no regular file, or cannot be read.
    """
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(0, "it is no regular file")
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    finally:
        os.close(found)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = open_regular(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def defines(path: Path, names: Collection[str], parser: Parser = _parser) -> bool:
    """True where an ELF file exports all these functions. A file that is no ELF exports nothing."""
    try:
        with _opened(path) as descriptor:
            answer = parser.ask("defines", {"names": sorted(names)}, files=[descriptor])
    except (ParserError, OSError):
        return False
    return answer.fields.get("defines") is True


def read_object(
    path: Path, name: str, table: str = ".dynsym", *, names: Collection[str] | None = None, parser: Parser = _parser
) -> ElfObject:
    """Read an ELF file.

    Args:
        path: what to open.
        name: what to call it in an error.
        table: which symbols `exports` holds: the exported ones, or with ``.symtab`` all that the file names.
        names: the functions that are wanted; all of them by default.
        parser: reads it.

    Raises:
        LabError: the file cannot be read or is no ELF.
    """
    fields: dict[str, Any] = {"table": table, "names": None if names is None else sorted(names)}
    try:
        with _opened(path) as descriptor:
            return object_of(parser.ask("facts", fields, files=[descriptor]))
    except ParserError as error:
        raise LabError(
            f"{safe_text(name)} is no readable ELF file ({safe_text(str(error))})",
            "restart the process from an intact file",
        ) from error
    except OSError as error:
        raise LabError(
            f"{safe_text(name)} cannot be read: {error.strerror}", rights_remedy(error, "restart the process")
        ) from error


def find_symbols(
    path: Path, functions: Collection[str], variables: Collection[str] = (), parser: Parser = _parser
) -> FileSymbols:
    """The functions of these names that an ELF file defines, and the variables that it exports.

    Raises:
        LabError: the file cannot be read or is no ELF.
    """
    fields = {"names": sorted(functions), "ends": [], "variables": sorted(variables)}
    try:
        with _opened(path) as descriptor:
            return symbols_of(parser.ask("symbols", fields, files=[descriptor]))
    except (ParserError, OSError) as error:
        raise LabError(f"{path} cannot be read: {safe_text(str(error))}", "run: memleak-lab doctor") from error


def choose_instruction(
    code: bytes, machine: str, *, arguments: int, at_entry: bool = False, parser: Parser = _parser
) -> Placement:
    """Where in a function its probe goes: see `placement.place`, which the parser runs.

    Raises:
        LabError: the code cannot be decoded.
    """
    fields = {"machine": machine, "arguments": arguments, "at_entry": at_entry}
    try:
        return placement_of(parser.ask("place", fields, code), len(code))
    except ParserError as error:
        raise LabError(f"the code of an allocator cannot be read ({error})", "run: memleak-lab doctor") from error


def read_code(path: Path, elf: ElfObject, export: Export, limit: int) -> bytes:
    """The first ``limit`` bytes of a function's code, or all of them where it is shorter.

    Raises:
        LabError: the file cannot be read any more.
    """
    offset = elf.offset_of(export.address)
    if offset is None:
        return b""
    try:
        with _opened(path) as descriptor:
            return os.pread(descriptor, min(limit, export.size) if export.size else limit, offset)
    except OSError as error:
        raise LabError(
            f"the code of {export.name} cannot be read: {error.strerror}",
            "has the process ended? Start it again, and trace it while it runs",
        ) from error
