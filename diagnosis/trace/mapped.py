"""A process's mappings: which bytes are still mapped, and which call stack mapped them."""

from __future__ import annotations

import bisect
import os
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from heap_trace import MappingKind

from diagnosis.trace.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from heap_trace import MappingEvent

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# What is heap as malloc's blocks are. Mapped files and reservations are address space: they are counted apart.
HEAP_KINDS = frozenset({MappingKind.MAPPED, MappingKind.SHARED})

# More threads than can be in the midst of an munmap: the oldest of so many is over, and did not fail.
MAX_UNDER_WAY = 4096


@dataclass
class _Call:
    """One mmap that returned: it is freed when its last byte is unmapped."""

    kind: MappingKind
    stack: int
    time_ns: int
    bytes_left: int


@dataclass(frozen=True)
class _Piece:
    start: int
    end: int
    call: _Call


@dataclass(frozen=True)
class MappedRange:
    """A range of addresses that is mapped now, by which call stack and as what."""

    start: int
    end: int
    stack: int
    kind: MappingKind
    time_ns: int


def _no_counts() -> defaultdict[int, Counts]:
    return defaultdict(Counts)


@dataclass
class MappedRanges:
    """Follows mappings through cuts, moves and replacements, page by page as the kernel does.

    ``counts`` are of anonymous memory, ``apart`` of the kinds that are address space only, both by call stack.
    """

    counts: defaultdict[int, Counts] = field(default_factory=_no_counts)
    apart: dict[MappingKind, defaultdict[int, Counts]] = field(
        default_factory=lambda: {kind: _no_counts() for kind in (MappingKind.FILE_MAPPED, MappingKind.RESERVED)}
    )
    _pieces: list[_Piece] = field(default_factory=list)
    _last_cut: dict[int, list[_Piece]] = field(default_factory=dict)

    def apply(self, events: Iterable[MappingEvent]) -> None:
        """Count events in the order in which the kernel saw them."""
        for event in events:
            end = event.address + -(-event.bytes // PAGE_BYTES) * PAGE_BYTES
            match event.kind:
                case MappingKind.UNMAPPED:
                    self._keep_cut(event.thread, self._cut(event.address, end))
                case MappingKind.RESTORED:
                    self._restore(self._last_cut.pop(event.thread, []))
                case _:
                    self._last_cut.pop(event.thread, None)
                    self._cut(event.address, end)  # what a fixed mapping replaces is gone
                    self._add(event, end)

    def survivors(self) -> list[tuple[int, int, int]]:
        """(stack, bytes, time_ns) of every anonymous mapping that is still there, or of what is left of it."""
        calls = {id(piece.call): piece.call for piece in self._pieces if piece.call.kind in HEAP_KINDS}
        return [(call.stack, call.bytes_left, call.time_ns) for call in calls.values()]

    def ranges(self) -> list[MappedRange]:
        """Everything that was mapped under the trace and still is, by rising address."""
        return [
            MappedRange(piece.start, piece.end, piece.call.stack, piece.call.kind, piece.call.time_ns)
            for piece in self._pieces
        ]

    def _counts_of(self, call: _Call) -> Counts:
        return (self.counts if call.kind in HEAP_KINDS else self.apart[call.kind])[call.stack]

    def _keep_cut(self, thread: int, pieces: list[_Piece]) -> None:
        """Until the thread's next event, which says whether it failed. Threads that have ended have none."""
        self._last_cut.pop(thread, None)
        if pieces:
            self._last_cut[thread] = pieces
        if len(self._last_cut) > MAX_UNDER_WAY:
            del self._last_cut[next(iter(self._last_cut))]

    def _add(self, event: MappingEvent, end: int) -> None:
        call = _Call(event.kind, event.stack, event.time_ns, end - event.address)
        counts = self._counts_of(call)
        counts.allocations += 1
        counts.allocated_bytes += call.bytes_left
        self._insert(_Piece(event.address, end, call))

    def _insert(self, piece: _Piece) -> None:
        bisect.insort(self._pieces, piece, key=lambda kept: kept.start)

    def _cut(self, start: int, end: int) -> list[_Piece]:
        """Take [start, end) out; returns the pieces that went."""
        first = bisect.bisect_right(self._pieces, start, key=lambda piece: piece.end)
        last = bisect.bisect_left(self._pieces, end, lo=first, key=lambda piece: piece.start)
        gone = []
        rest = []
        for piece in self._pieces[first:last]:
            low, high = max(start, piece.start), min(end, piece.end)
            gone.append(replace(piece, start=low, end=high))
            rest += [replace(piece, start=a, end=b) for a, b in ((piece.start, low), (high, piece.end)) if a < b]
        self._pieces[first:last] = rest
        for piece in gone:
            self._count(piece, sign=1)
        return gone

    def _restore(self, pieces: list[_Piece]) -> None:
        for piece in pieces:
            self._count(piece, sign=-1)
            self._insert(piece)

    def _count(self, piece: _Piece, *, sign: int) -> None:
        """Count a piece as given back (1), or as not given back after all (-1)."""
        counts = self._counts_of(piece.call)
        size = (piece.end - piece.start) * sign
        was_gone = piece.call.bytes_left == 0
        piece.call.bytes_left -= size
        counts.freed_bytes += size
        counts.frees += (piece.call.bytes_left == 0) - was_gone
