"""Reads code objects of Python in a process's memory: their function, file and lines.

All of it is the target's to write, and to change while it is read. Every reading is of a limited size, and every offset
within what was read is checked; nothing but numbers and text comes out.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from heap_trace import PythonEnding

from diagnosis.base.text import safe_text
from diagnosis.target.python import read_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from heap_trace import PythonCall, Stack

    from diagnosis.target.process import Process
    from diagnosis.target.python_layouts import CodeLayout

# What a code object that cannot be read is called.
UNKNOWN = "[unknown Python function]"

MAX_TEXT = 4_096  # characters of a path
MAX_LINES = 1 << 16  # bytes of a table of lines
# Of one process: different functions and the places in them, their characters, and bytes of tables decoded. What comes
# after that has no name. A large application has some ten thousand functions.
MAX_PLACES = 1 << 18
MAX_CHARACTERS = 16 << 20
MAX_DECODED = 16 << 20
UNIT = 2  # bytes of an instruction
_WHOLE = (PythonEnding.NONE, PythonEnding.WHOLE)
_ENCODINGS = {1: "latin-1", 2: "utf-16", 4: "utf-32"}
_BYTE_ORDER = {1: "", 2: "-le", 4: "-le"}


@dataclass(frozen=True)
class PythonFrame:
    """One Python function that ran. ``line`` is 0 where it has none; ``called_by_c`` ends a native frame's share."""

    function: str
    file: str
    line: int
    called_by_c: bool


# In the place of functions: a native frame of the interpreter has ended its last one, and clears what that held.
NO_FUNCTION = PythonFrame("", "", 0, called_by_c=True)


@dataclass(frozen=True)
class PythonStack:
    """The Python functions of a stack, innermost first; ``whole`` where none is missing at the outer end."""

    frames: tuple[PythonFrame, ...]
    whole: bool


@dataclass(frozen=True)
class _Head:
    """What of a code object tells it from another one at its address."""

    qualname: int
    filename: int
    linetable: int
    first_line: int


@dataclass
class _Code:
    """A function by name, and its lines: by instruction, as far as they were asked for."""

    function: str
    file: str
    lines: dict[int, int]


class CodeReader:
    """Names the Python functions of one process. To be asked soon: a code object can be freed, and its place reused.

    ``full``: a limit was reached, and a function has no name for it, or a place in one no line.

    Raises:
        LabError: the process's memory cannot be opened.
    """

    def __init__(self, process: Process, layout: CodeLayout) -> None:
        self._layout = layout
        self._memory = process.open_memory()
        self._size = max(layout.qualname, layout.filename, layout.linetable, layout.first_line) + 8
        self._codes: dict[tuple[int, _Head], _Code] = {}
        self._places = self._characters = self._decoded = 0
        self.full = False

    def close(self) -> None:
        """Close the process's memory. What was named stays so."""
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def named(self, stacks: Mapping[int, Stack]) -> dict[int, PythonStack]:
        """The Python functions of stacks, by the stacks' hashes."""
        heads: dict[int, _Head | None] = {}  # read once for all of them: they were seen at nearly the same time
        return {
            found: PythonStack(self._frames(stack.python, heads), stack.python_ending in _WHOLE)
            for found, stack in stacks.items()
        }

    def _frames(self, calls: Sequence[PythonCall], heads: dict[int, _Head | None]) -> tuple[PythonFrame, ...]:
        """The functions of a stack. A mark that C called one is put into that one.

        From 3.12 on each native frame of the interpreter has a mark: one without a function before it runs none any
        more. Only 3.14 has one more, at the outer end of a thread's.
        """
        found: list[PythonFrame] = []
        for number, call in enumerate(calls, 1):
            if call.code:
                found.append(self._frame(call, heads))
            elif found and not found[-1].called_by_c:
                found[-1] = replace(found[-1], called_by_c=True)
            elif number < len(calls):
                found.append(NO_FUNCTION)
        return tuple(found)

    def _frame(self, call: PythonCall, heads: dict[int, _Head | None]) -> PythonFrame:
        if call.code not in heads:
            heads[call.code] = self._known_head(call.code)
        head = heads[call.code]
        if head is None:
            return PythonFrame(UNKNOWN, "", 0, call.called_by_c)
        code = self._codes[call.code, head]
        signed = call.offset - (1 << 32) if call.offset >> 31 else call.offset
        unit = (signed - self._layout.instructions) // UNIT
        if unit not in code.lines:
            if self._places < MAX_PLACES:
                self._places += 1
                code.lines[unit] = self._line(head, unit)
            else:
                self.full = True
        return PythonFrame(code.function, code.file, code.lines.get(unit, 0), call.called_by_c)

    def _line(self, head: _Head, unit: int) -> int:
        """The line of an instruction. The table is not kept: a process can have as many as it likes."""
        if unit < 0:
            return max(0, head.first_line)  # a function that is about to begin
        if self._decoded >= MAX_DECODED:
            self.full = True
            return 0
        try:
            table = self._bytes(head.linetable)
        except (OSError, ValueError):
            return 0
        self._decoded += len(table)
        return line_of(table, head.first_line, unit)

    def _known_head(self, address: int) -> _Head | None:
        """What tells a code object from others at its address, which is named by then; None where it cannot be read."""
        try:
            head = self._head(address)
            if (address, head) not in self._codes:
                if self._places >= MAX_PLACES or self._characters >= MAX_CHARACTERS:
                    self.full = True
                    return None
                code = self._codes[address, head] = self._read_code(head)
                self._places += 1
                self._characters += len(code.function) + len(code.file)
        except (OSError, ValueError):
            return None
        return head

    def _head(self, address: int) -> _Head:
        data = read_memory(self._memory, address, self._size)
        layout = self._layout
        (qualname,) = struct.unpack_from("=Q", data, layout.qualname)
        (filename,) = struct.unpack_from("=Q", data, layout.filename)
        (linetable,) = struct.unpack_from("=Q", data, layout.linetable)
        (first_line,) = struct.unpack_from("=i", data, layout.first_line)
        return _Head(qualname, filename, linetable, first_line)

    def _read_code(self, head: _Head) -> _Code:
        function = safe_text(self._text(head.qualname)) or UNKNOWN
        start, size = self._extent(head.linetable)
        read_memory(self._memory, start, size and 1)  # that there is one; its lines are for when they are asked for
        return _Code(function, safe_text(self._text(head.filename), MAX_TEXT), {})

    def _text(self, address: int) -> str:
        """A string.

        Raises:
            OSError: it is not mapped.
            ValueError: it is none, or too long.
        """
        layout = self._layout
        data = read_memory(self._memory, address, layout.wide_bytes)
        (length,) = struct.unpack_from("=q", data, layout.text_length)
        (state,) = struct.unpack_from("=I", data, layout.text_state)
        kind, compact, ascii_only = state >> 2 & 7, state >> 5 & 1, state >> 6 & 1
        if kind not in _ENCODINGS or not compact or not 0 <= length <= MAX_TEXT:
            raise ValueError("this is no string")
        start = address + (layout.ascii_bytes if ascii_only else layout.wide_bytes)
        return read_memory(self._memory, start, length * kind).decode(_ENCODINGS[kind] + _BYTE_ORDER[kind], "replace")

    def _bytes(self, address: int) -> bytes:
        return read_memory(self._memory, *self._extent(address))

    def _extent(self, address: int) -> tuple[int, int]:
        """Where the content of a bytes object begins, and how long it is."""
        layout = self._layout
        (length,) = struct.unpack("=q", read_memory(self._memory, address + layout.bytes_length, 8))
        if not 0 <= length <= MAX_LINES:
            raise ValueError("this is no table of lines")
        return address + layout.bytes_start, length


# Kinds of entries in a table of lines: InternalDocs/code_objects.md of CPython.
_NO_LINE, _LONG, _NO_COLUMN, _ONE_LINE = 15, 14, 13, range(10, 13)


def line_of(table: bytes, first_line: int, unit: int) -> int:
    """The line of an instruction, in units of 2 bytes, by a code object's table of lines."""
    found = max(0, first_line)
    for start, line in decode_lines(table, first_line):
        if start > unit:
            break
        found = line
    return found


def decode_lines(table: bytes, first_line: int) -> Iterator[tuple[int, int]]:
    """The ranges of a code object's table of lines: the first instruction, in units of 2 bytes, and its line, or 0."""
    line, unit, at = first_line, 0, 0
    while at < len(table):
        head = table[at]
        at += 1
        kind, units = head >> 3 & 15, (head & 7) + 1
        if kind in (_LONG, _NO_COLUMN):
            value, at = _varint(table, at)
            line += -(value >> 1) if value & 1 else value >> 1
            for _ in range(3 if kind == _LONG else 0):
                _, at = _varint(table, at)
        elif kind in _ONE_LINE:
            line += kind - _ONE_LINE.start
            at += 2
        elif kind != _NO_LINE:
            at += 1
        yield unit, 0 if kind == _NO_LINE else max(0, line)
        unit += units


def _varint(table: bytes, at: int) -> tuple[int, int]:
    """A number in groups of 6 bits, lowest first, and where it ends."""
    value = shift = 0
    while at < len(table) and shift <= 30:
        byte = table[at]
        at += 1
        value |= (byte & 63) << shift
        shift += 6
        if not byte & 64:
            break
    return value, at
