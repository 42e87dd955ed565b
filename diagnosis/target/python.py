"""Whether a process is a CPython, and where in its memory the interpreter keeps what runs.

The offsets are in `python_layouts`. They have to lead to a thread of the process before they are used.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.target.objects import file_state, find_symbols, read_object, shared_parser
from diagnosis.target.python_layouts import PUBLISHED, TABLE, layouts_of, published_bytes
from diagnosis.target.unwinding import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from heap_trace import PythonFrames

    from diagnosis.target.mapping import Mapping as MappedFile
    from diagnosis.target.objects import FileState
    from diagnosis.target.parser.client import Parser
    from diagnosis.target.process import Process
    from diagnosis.target.python_layouts import CodeLayout

RUNTIME, VERSION = "_PyRuntime", "Py_Version"
SUPPORTED = "3.11 to 3.14"

# Files that an interpreter can be in: python3.11, libpython3.13.so.1.0. Extensions have python in their names as well.
_INTERPRETER = re.compile(r"(lib)?python3?(\.\d+)?([dt]*)(\.so[.\d]*)?$")
# Files of interpreters that are remembered.
MAX_FILES = 32
# Thread states that are looked at to see whether the offsets are right.
MAX_THREADS = 64


@dataclass(frozen=True)
class Interpreter:
    """The CPython of a process: its version, and how to read its frames and its code objects."""

    version: str
    frames: PythonFrames
    code: CodeLayout


@dataclass(frozen=True)
class FoundPython:
    """What was found: an interpreter, or why its frames cannot be named; neither for a process that is no Python."""

    interpreter: Interpreter | None = None
    reason: str = ""


def is_interpreter(path: str) -> bool:
    """True for the file of an interpreter, or of an extension that comes with it."""
    return bool(_INTERPRETER.fullmatch(path.rpartition("/")[2])) or "/lib-dynload/" in path


def find_python(process: Process, parser: Parser | None = None) -> FoundPython:
    """The interpreter of a process.

    Raises:
        LabError: the process has ended, or is another user's.
    """
    parser = parser or shared_parser()
    reason = ""
    for mapping in _candidates(process):
        try:
            found = _in_file(process, mapping, parser)
        except LabError as error:
            if not process.alive():
                raise
            return FoundPython(reason=f"{mapping.label} cannot be read: {error}")
        if found.interpreter:
            return found
        reason = reason or found.reason
    return FoundPython(reason=reason)


def _candidates(process: Process) -> list[MappedFile]:
    files = {each.file: each for each in reversed(process.code_maps()) if each.path.startswith("/")}
    return [each for each in files.values() if _INTERPRETER.fullmatch(each.name)]


def _in_file(process: Process, mapping: MappedFile, parser: Parser) -> FoundPython:
    file = _read_file(process.open_path(mapping), mapping.label, parser)
    if file is None:  # a launcher whose interpreter is a library, or a static build without exports
        return FoundPython(reason=f"{mapping.label} exports no {RUNTIME}")
    start = file.layout.address_of(mapping.offset)
    if start is None:
        return FoundPython(reason=f"{mapping.label} is mapped in an unknown way")
    bias = mapping.start - start - file.layout.base
    memory = process.open_memory()
    try:
        version = None
        if file.version is not None:
            (version,) = struct.unpack("=Q", read_memory(memory, bias + file.version, 8))
        return _by_version(process, memory, bias + file.runtime, version)
    except OSError as error:
        return FoundPython(reason=f"{mapping.label} cannot be read in the process: {error.strerror}")
    finally:
        os.close(memory)


@dataclass(frozen=True)
class _File:
    """An interpreter's file: its segments, and the addresses in it of the runtime and of the number of its version."""

    layout: Layout
    runtime: int
    version: int | None


def _read_file(path: Path, label: str, parser: Parser) -> _File | None:
    """The interpreter in a file, read once: workers of a server have the same. None where it exports none."""
    key = file_state(path, label)
    if key in _files:
        return _files[key]
    symbols = find_symbols(path, (), (RUNTIME, VERSION), parser).variables
    found = None
    if RUNTIME in symbols and (segments := read_object(path, label, names=(), parser=parser).segments):
        version = symbols[VERSION].address if VERSION in symbols else None
        found = _File(Layout(segments), symbols[RUNTIME].address, version)
    if len(_files) < MAX_FILES:
        _files[key] = found
    return found


_files: dict[FileState, _File | None] = {}

# Threads that start and end meanwhile can lead a look at the list of them astray.
_LOOKS = 4


def _by_version(process: Process, memory: int, runtime: int, version: int | None) -> FoundPython:
    if version is None:
        return FoundPython(reason=f"this Python is older than 3.11: frames of {SUPPORTED} are known")
    minor = version >> 24 & 0xFF, version >> 16 & 0xFF
    name = f"{minor[0]}.{minor[1]}.{version >> 8 & 0xFF}"
    if minor in TABLE:
        frames, code = TABLE[minor]
        found = FoundPython(Interpreter(name, replace(frames, runtime=runtime), code))
    elif minor in PUBLISHED:
        published = read_memory(memory, runtime, published_bytes(minor))
        try:
            frames, code = layouts_of(published, minor)
        except ValueError as error:
            return FoundPython(reason=f"this Python {name} {error}")
        found = FoundPython(Interpreter(name, replace(frames, runtime=runtime), code))
    else:
        found = FoundPython(reason=f"this is Python {name}: frames of {SUPPORTED} are known")
    known = found.interpreter
    if known and not any(_holds(process, memory, known.frames) for _ in range(_LOOKS)):
        why = "it was forked by C code that did not tell it (PyOS_AfterFork_Child), or is built in another way"
        return FoundPython(reason=f"this Python {name} knows none of the process's threads: {why}")
    return found


def _holds(process: Process, memory: int, frames: PythonFrames) -> bool:
    """True where the offsets lead to a thread of the process, or where the interpreter has not begun yet."""
    interpreter = _word(memory, frames.runtime + frames.interpreters)
    if not interpreter:
        return True
    ids = process.thread_ids()
    try:
        state = _word(memory, interpreter + frames.threads)
        for _ in range(MAX_THREADS):
            if not state:
                break
            if _word(memory, state + frames.native_id) in ids:
                return True
            state = _word(memory, state + frames.next_thread)
    except OSError:
        pass
    return False


def read_memory(memory: int, address: int, size: int) -> bytes:
    """Bytes of the process's memory, all of them.

    Raises:
        OSError: they are not mapped.
    """
    try:
        found = os.pread(memory, size, address)
    except OverflowError:
        found = b""
    if len(found) < size:
        raise OSError(0, "it is not mapped")
    return found


def _word(memory: int, address: int) -> int:
    return int(struct.unpack("=Q", read_memory(memory, address, 8))[0])
