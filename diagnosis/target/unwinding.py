"""Unwind tables of a process: the call frame information of all that it has mapped, kept up to date.

The parser makes rows of the files; heap_trace walks by them. Here is what neither knows: which files are mapped where.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from heap_trace.unwind import Capacity, Ending, Module

from diagnosis.base.errors import LabError
from diagnosis.target.mapped_code import SeenCode
from diagnosis.target.objects import file_state, open_regular, shared_parser
from diagnosis.target.parser.answers import unwind_rows_of
from diagnosis.target.parser.client import Budget, ParserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from heap_trace.unwind import ObjectRows, Table, UnwindTables

    from diagnosis.target.mapping import Mapping
    from diagnosis.target.objects import FileState
    from diagnosis.target.parser.client import Parser
    from diagnosis.target.parser.facts import Segment
    from diagnosis.target.process import Process

PAGE = mmap.PAGESIZE

# Executable mappings that the eBPF program can look through: UNWIND_MAX_MODULES of native/trace/src/unwind.h.
MAX_MODULES = 4096

# Room for what a process loads later: libraries of a million rows, and the rules that they bring.
SPARE = Capacity(rows=1 << 20, chunks=1 << 16, rules=1 << 13)

# New rules that one object brings: those of most objects are nearly all known from others.
RULES_OF_AN_OBJECT = 64

# At most this share of a processor goes into reading what is mapped, and into reading its files anew.
LOOKING_SHARE = 0.01

# How long what was read of files is kept: one process can have several tables, and workers have their server's files.
KEPT_SECONDS = 30.0


@dataclass(frozen=True)
class Layout:
    """Where an object file's bytes lie."""

    segments: tuple[Segment, ...]

    @property
    def base(self) -> int:
        """What addresses of its rows count from."""
        return self.segments[0].address

    def address_of(self, offset: int) -> int | None:
        """The address, from the load base, of the first byte of a mapping of code.

        It begins with the page of a segment's start, which can be the last page of the segment before: lld puts no
        gap between them, and the next one's addresses lie a page further on.
        """
        for segment in self.segments:
            if segment.executable and segment.offset // PAGE * PAGE <= offset < segment.offset + segment.size:
                return segment.address - segment.offset + offset - self.base
        return None


@dataclass(frozen=True)
class ObjectTable:
    """The rows of one object file, and the way from its mappings' offsets to its addresses."""

    rows: ObjectRows
    layout: Layout


# As long as somebody keeps it.
_recent: WeakValueDictionary[FileState, ObjectTable] = WeakValueDictionary()


def read_table(path: Path, parser: Parser | None = None, budget: Budget | None = None) -> ObjectTable | None:
    """The unwind table of an object file; None where it holds no call frame information, or is no ELF file.

    Raises:
        OSError: it cannot be read.
        ParserError: it cannot be parsed.
    """
    descriptor = open_regular(path)
    try:
        answer = (parser or shared_parser()).ask("cfi", files=[descriptor], budget=budget)
    finally:
        os.close(descriptor)
    segments, rows = unwind_rows_of(answer)
    return ObjectTable(rows, Layout(segments)) if rows and rows.chunks else None


class ProcessTables:
    """What a process has mapped, as unwind tables: `load` once a trace is open, `refresh` when it may have changed."""

    def __init__(self, process: Process, *, parser: Parser | None = None) -> None:
        began = time.perf_counter()
        self._process = process
        self._parser = parser or shared_parser()
        self._budget = Budget()
        self._layouts: dict[tuple[str, int], Layout | None] = {}
        self._rows: dict[tuple[str, int], ObjectRows] = {}  # until they lie in the trace's tables
        self._loaded: dict[tuple[str, int], Table | None] = {}
        self._states: dict[tuple[str, int], FileState] = {}
        self._kept: list[ObjectTable] = []  # for other tables of the same files
        self._kept_until = began + KEPT_SECONDS
        self._tables: UnwindTables | None = None
        self._look_at = self._anew_at = 0.0
        self._unused = False  # rows lie in the trace's tables that nothing leads to any more
        self._no_room = False  # for a file, while others that are not mapped any more hold some
        self._mappings = self._executable()
        self._seen = SeenCode()
        self._seen.add(self._mappings)
        for mapping in self._mappings:
            self._layout(mapping)
        self.seconds = time.perf_counter() - began

    def _executable(self) -> tuple[Mapping, ...]:
        return tuple(each for each in self._process.code_maps() if each.path not in _NOT_WALKED)

    def _layout(self, mapping: Mapping) -> Layout | None:
        """The object of a mapping, read once; None for code that was made at run time, or without a table."""
        if not mapping.inode:
            return None
        if mapping.file not in self._layouts:
            try:
                path = self._process.open_path(mapping)
                state = self._states[mapping.file] = file_state(path, mapping.label)
                table = _recent.get(state) or read_table(path, self._parser, self._budget)
            except ParserError:
                table = None
            except (OSError, LabError):
                return None  # not remembered: where its process has just ended, the next one leads to the file
            self._layouts[mapping.file] = table.layout if table else None
            if table:
                _recent[state] = table
                self._kept.append(table)
                self._rows[mapping.file] = table.rows
        return self._layouts[mapping.file]

    def _forget_replaced(self, new: Iterable[Mapping]) -> None:
        """Forget what was read of a file whose number another one has by now: a plugin that was built anew.

        Only what is not mapped can give its number away.
        """
        for file, mapping in {mapping.file: mapping for mapping in new}.items():
            if file not in self._states:
                continue
            with contextlib.suppress(LabError):
                if file_state(self._process.open_path(mapping), mapping.label) != self._states[file]:
                    self._unused |= self._loaded.get(file) is not None
                    for known in (self._states, self._layouts, self._rows, self._loaded):
                        known.pop(file, None)

    @property
    def needed(self) -> Capacity:
        """The room for what is mapped, before it is loaded."""
        return Capacity(
            rows=sum(map(len, self._rows.values())),
            chunks=sum(rows.chunks for rows in self._rows.values()),
            rules=RULES_OF_AN_OBJECT * len(self._rows),
        )

    def capacity(self, spare: Capacity = SPARE) -> Capacity:
        """The room for what is mapped now, and some for what will be."""
        return self.needed + spare

    def load(self, tables: UnwindTables) -> None:
        """Fill a trace's tables, which are empty. Once."""
        self._tables = tables
        self._set_modules()

    def follow(self, process: Process) -> None:
        """Serve another process from now on. What was read of files serves it too: a server's workers share them.

        Raises:
            LabError: that process has ended.
        """
        self._process = process
        self._mappings = self._executable()
        self._forget_replaced(self._mappings)
        self._seen = SeenCode()
        self._seen.add(self._mappings)
        self._look_at = 0.0
        self._set_modules()

    def refresh(self) -> bool:
        """Look whether code was mapped or unmapped; True where it was, and the tables were changed.

        To be called ten times a second. It looks less often where that would take more than a hundredth of the time.

        Raises:
            LabError: the process has ended.
        """
        if self._tables is None:
            return False
        if (now := time.perf_counter()) >= self._kept_until:
            self._kept.clear()
        missing = self._tables.take_missing()
        return (missing or now >= self._look_at) and self._look()

    def refresh_if_missing(self) -> bool:
        """The same, where a walk has met code that is in no table: it costs nothing where none has.

        Raises:
            LabError: the process has ended.
        """
        return self._tables is not None and self._tables.take_missing() and self._look()

    def _look(self) -> bool:
        began = time.perf_counter()
        mappings = self._executable()
        now = time.perf_counter()
        self._look_at = now + (now - began) / LOOKING_SHARE
        if mappings == self._mappings and not (self._no_room and now >= self._anew_at):
            return False
        new = set(mappings).difference(self._mappings)
        self._forget_replaced(new)
        self._mappings = mappings
        self._seen.add(new)
        self._set_modules()
        return True

    def was_code(self, address: int) -> bool:
        """True where code is or was mapped, as far as was seen: a walk that has come to another address went astray."""
        return self._seen.holds(address)

    @property
    def objects(self) -> int:
        """How many object files have a table."""
        return sum(layout is not None for layout in self._layouts.values())

    def _set_modules(self) -> None:
        if self._tables is None:
            return
        modules = [self._module(mapping) for mapping in self._walked()]
        mapped = {mapping.file for mapping in self._mappings}
        unused = self._unused or any(table for file, table in self._loaded.items() if file not in mapped)
        self._no_room = unused and any(self._loaded.get(file, True) is None for file in mapped)
        if self._no_room and time.perf_counter() >= self._anew_at and self._read_anew(mapped):
            self._no_room = self._unused = False
            self._tables.clear()
            modules = [self._module(mapping) for mapping in self._walked()]
        self._tables.set_modules(modules)

    def _read_anew(self, mapped: set[tuple[str, int]]) -> bool:
        """Forget all files, and read those that are mapped: tables have room for these, and give back none by itself.

        False where one of them cannot be read any more, and all stays as it is. Meanwhile walks go by the old tables.
        """
        began = time.perf_counter()
        known = self._layouts, self._rows, self._states
        self._layouts, self._rows, self._states = {}, {}, {}
        for mapping in self._mappings:
            self._layout(mapping)
        self._anew_at = time.perf_counter() + (time.perf_counter() - began) / LOOKING_SHARE
        if any(known[0].get(file) and not self._layouts.get(file) for file in mapped):
            self._layouts, self._rows, self._states = known
            return False
        self._loaded.clear()
        return True

    def _walked(self) -> Sequence[Mapping]:
        """What there is room for: of more mappings, those of the files that have the fewest.

        A file that is mapped ten thousand times does not take the place of the libraries.
        """
        if len(self._mappings) <= MAX_MODULES:
            return self._mappings
        many = Counter(mapping.file for mapping in self._mappings)
        return sorted(self._mappings, key=lambda mapping: many[mapping.file])[:MAX_MODULES]

    def _module(self, mapping: Mapping) -> Module:
        layout = self._layout(mapping)
        address = layout.address_of(mapping.offset) if layout else None
        if address is None or self._tables is None:
            return Module(mapping.start, mapping.end)  # by frame pointers, which is all that there is
        if rows := self._rows.pop(mapping.file, None):
            self._loaded[mapping.file] = self._tables.add(rows)
        table = self._loaded[mapping.file]
        if table is None:
            return Module(mapping.start, mapping.end, end_as=Ending.NOT_LOADED)
        return Module(mapping.start, mapping.end, mapping.start - address, table)


# Return probes lead to the first of them, which the walk undoes by itself; nothing returns to the second.
_NOT_WALKED = frozenset({"[uprobes]", "[vsyscall]"})
