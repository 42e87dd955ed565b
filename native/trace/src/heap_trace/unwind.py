"""Unwind tables: whole stacks of code that keeps no frame pointers.

The call frame information of an object file comes in as text: this package reads no ELF files. What is mapped where is
the caller's to say, and to say again when it changes.
"""

from __future__ import annotations

import enum
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from heap_trace._errors import check
from heap_trace._heap_trace import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "BY_FRAME_POINTERS",
    "Capacity",
    "Code",
    "Ending",
    "Module",
    "ObjectRows",
    "Rule",
    "RuleKind",
    "Table",
    "UnwindMode",
    "UnwindTables",
    "Unwinding",
    "Unwound",
]


class UnwindMode(enum.IntEnum):
    """How a trace takes stacks."""

    OFF = lib.UNWIND_OFF  # by frame pointers, in the kernel
    ON = lib.UNWIND_ON
    COMPARE = lib.UNWIND_COMPARE  # walk also where the memo answers, and count mismatches


class Ending(enum.IntEnum):
    """How a stack ended: only START is whole."""

    START = lib.HEAP_END_START
    NO_TABLE = lib.HEAP_END_NO_TABLE
    UNREADABLE = lib.HEAP_END_UNREADABLE
    TOO_DEEP = lib.HEAP_END_TOO_DEEP
    NOT_LOADED = lib.HEAP_END_NOT_LOADED
    PROBED = lib.HEAP_END_PROBED
    UNKNOWN = lib.HEAP_END_UNKNOWN


class RuleKind(enum.IntEnum):
    """What a row says of its instructions' frame."""

    NONE = lib.UNWIND_NONE
    SP = lib.UNWIND_SP
    FP = lib.UNWIND_FP
    START = lib.UNWIND_START
    SIGNAL = lib.UNWIND_SIGNAL
    REALIGNED = lib.UNWIND_REALIGNED
    SWITCHED = lib.UNWIND_SWITCHED
    GO_CALLS_C = lib.UNWIND_GO_CALLS_C
    OTHER = lib.UNWIND_OTHER


class Rule(NamedTuple):
    """Where a frame lies: ``cfa`` from the register of its kind; return address and frame pointer from that, or 0."""

    kind: RuleKind
    cfa: int = 0
    ra: int = 0
    fp: int = 0


@dataclass(frozen=True)
class Code:
    """A range of an object's code of which its call frame information says nothing, or nothing right.

    With ``fills_gap`` it holds only where there is no row, of kind FP in all such gaps and else in the first one, where
    the range begins. Of kind FP, every function there keeps the frame pointer, ``cfa`` bytes before where its caller's
    stack began. Of kind GO_CALLS_C, ``cfa`` is how far from the stack pointer the depth lies.
    """

    start: int
    end: int
    kind: RuleKind
    fills_gap: bool = False
    cfa: int = 16


@dataclass(frozen=True)
class Capacity:
    """Rows, 256-byte chunks of code and different rules."""

    rows: int
    chunks: int
    rules: int

    def __add__(self, other: Capacity) -> Capacity:
        return Capacity(self.rows + other.rows, self.chunks + other.chunks, self.rules + other.rules)

    @property
    def bytes(self) -> int:
        """The memory that the kernel keeps for them."""
        return 4 * self.rows + 8 * self.chunks + 16 * self.rules


@dataclass(frozen=True)
class Unwinding:
    """How to unwind, and the room that is kept for tables: 4 bytes a row, 8 a chunk, 16 a rule.

    Attributes:
        memo_sets: places of the memo of stacks, 5.5 KB each: a power of two, or 0 for none.
    """

    mode: UnwindMode = UnwindMode.OFF
    capacity: Capacity = Capacity(0, 0, 0)
    memo_sets: int = 1024

    def options(self) -> dict[str, object]:
        """The fields of a struct unwind_options."""
        return {"mode": int(self.mode), "memo_sets": self.memo_sets, "capacity": vars(self.capacity)}


BY_FRAME_POINTERS = Unwinding()


@dataclass(frozen=True)
class Unwound:
    """What the program has unwound so far.

    Attributes:
        hits: stacks that the memo knew.
        walks: stacks that were walked, frame by frame.
        frames: the frames of these.
        mismatches: where memo and walk differed, with COMPARE. More than none is an error of this package.
        restored: return addresses put back that a pending return probe had replaced.
    """

    hits: int
    walks: int
    frames: int
    mismatches: int
    restored: int


class ObjectRows:
    """The rows of one object file, by address from its load base.

    Args:
        text: its call frame information, as symbolic's ``Object.make_cficache().open_stream()`` gives it.
        code: what that text says nothing of.

    Raises:
        TraceError: there is more than 4 GiB of code, more different rules than can be numbered, or no memory.
    """

    def __init__(self, text: bytes, code: Sequence[Code] = ()) -> None:
        made, native = ffi.new("struct unwind_rows **"), ffi.new("struct unwind_range[]", [vars(each) for each in code])
        check(lib.unwind_rows_parse(made, ffi.from_buffer(text), len(text), native, len(code)))
        self._own(made[0])

    def _own(self, native: object) -> None:
        self.native = ffi.gc(native, lib.unwind_rows_free)
        self.chunks = int(lib.unwind_rows_chunks(self.native))

    def pack(self) -> bytes:
        """The rows, `len` of them, and their rules: bytes of fixed size for another process of this machine."""
        size = lib.unwind_rows_packed_size(self.native)
        packed = ffi.new("char[]", size)
        lib.unwind_rows_pack(self.native, packed)
        return bytes(ffi.buffer(packed, size))

    @classmethod
    def unpack(cls, packed: bytes, count: int) -> Self:
        """``count`` rows and their rules, of a process that is not trusted: nothing is read but numbers.

        Raises:
            TraceError: they are none, or there is no memory.
        """
        made = ffi.new("struct unwind_rows **")
        check(lib.unwind_rows_unpack(made, ffi.from_buffer(packed), len(packed), count))
        rows = cls.__new__(cls)
        rows._own(made[0])  # noqa: SLF001 - its own class's
        return rows

    def __len__(self) -> int:
        return int(lib.unwind_rows_count(self.native))

    def find(self, address: int) -> Rule:
        """The rule in force at an address."""
        return _rule(lib.unwind_rows_find(self.native, address))

    def __iter__(self) -> Iterator[tuple[int, Rule]]:
        address, rule = ffi.new("uint32_t *"), ffi.new("struct unwind_rule *")
        i = 0
        while lib.unwind_rows_get(self.native, i, address, rule):
            yield int(address[0]), _rule(rule)
            i += 1


@dataclass(frozen=True)
class Table:
    """Where an object's rows lie in the tables of a process."""

    first_chunk: int
    chunks: int


@dataclass(frozen=True)
class Module:
    """One executable mapping: its addresses, and what to take from one for that in the object.

    Without a table it is walked by frame pointers, unless ``end_as`` says how a stack ends there.
    """

    start: int
    end: int
    bias: int = 0
    table: Table | None = None
    end_as: Ending = Ending.START


class UnwindTables:
    """The tables of one process: those of an open trace, or, without one, tables to look up in.

    Raises:
        TraceError: there is no memory.
    """

    def __init__(self, native: object) -> None:
        self._native = native

    @classmethod
    def private(cls, capacity: Capacity) -> Self:
        """Tables without a program."""
        made = ffi.new("struct unwind_tables **")
        check(lib.unwind_tables_open(made, ffi.NULL, ffi.new("struct unwind_capacity *", vars(capacity))))
        return cls(ffi.gc(made[0], lib.unwind_tables_close))

    def add(self, rows: ObjectRows) -> Table | None:
        """Put an object's rows in; None where they find no room."""
        first, chunks = ffi.new("uint32_t *"), ffi.new("uint32_t *")
        error = lib.unwind_tables_add(self._native, rows.native, first, chunks)
        if error == -errno.ENOSPC:
            return None
        check(error)
        return Table(int(first[0]), int(chunks[0]))

    def set_modules(self, modules: Sequence[Module]) -> None:
        """The executable mappings from now on, all at once, in any order.

        Raises:
            TraceError: two of them overlap, or there are more than 4096.
        """
        native = ffi.new(
            "struct unwind_module[]",
            [
                {
                    "start": module.start,
                    "end": module.end,
                    "bias": module.bias % (1 << 64),
                    "first_chunk": module.table.first_chunk if module.table else 0,
                    "chunks": module.table.chunks if module.table else 0,
                    "end_as": int(module.end_as),
                }
                for module in sorted(modules, key=lambda module: module.start)
            ],
        )
        check(lib.unwind_tables_set_modules(self._native, native, len(modules)))

    def clear(self) -> None:
        """Without modules, and with all of the room free: every `Table` that was given out stands for nothing now."""
        lib.unwind_tables_clear(self._native)

    def take_missing(self) -> bool:
        """True once after a walk met code that is in no module: the mappings have changed."""
        return bool(lib.unwind_tables_take_missing(self._native))

    def find(self, address: int) -> Rule | None:
        """What a walk finds for an address in the process; None where it is in no module."""
        rule = ffi.new("struct unwind_rule *")
        return None if lib.unwind_tables_find(self._native, address, rule) else _rule(rule)

    @property
    def used(self) -> Capacity:
        """How much of the room is taken."""
        used = ffi.new("struct unwind_capacity *")
        lib.unwind_tables_used(self._native, used)
        return Capacity(int(used.rows), int(used.chunks), int(used.rules))


def _rule(native: object) -> Rule:
    rule: Any = native
    return Rule(RuleKind(rule.kind), int(rule.cfa), int(rule.ra), int(rule.fp))
