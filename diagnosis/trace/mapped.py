"""A process's mappings: which bytes are still mapped, and which call stack mapped them."""

from __future__ import annotations

import bisect
import os
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from heap_trace import MappingKind

from diagnosis.base.errors import LabError
from diagnosis.target.shared_objects import SHARED_ANONYMOUS
from diagnosis.trace.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from heap_trace import MappingEvent

    from diagnosis.target.process import Process

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# What is heap as malloc's blocks are. Mapped files and reservations are address space: they are counted apart.
HEAP_KINDS = frozenset({MappingKind.MAPPED, MappingKind.SHARED})

# More threads than can be in the midst of an munmap: the oldest of so many is over, and did not fail.
MAX_UNDER_WAY = 4096

# A buffer that grows by mremap has an age in each of its parts. In so many, neighbours are put together.
MAX_PARTS = 64


@dataclass
class _Call:
    """One mmap that returned, or several as one: freed when its last byte is unmapped."""

    kind: MappingKind
    stack: int
    time_ns: int
    bytes_left: int
    calls: int = 1


@dataclass(frozen=True)
class _Piece:
    start: int
    end: int
    call: _Call


@dataclass(frozen=True)
class _Cut:
    """What a thread is about to unmap or to move, and what of it the trace knows."""

    start: int
    end: int
    pieces: list[_Piece]


@dataclass(frozen=True)
class MappedRange:
    """A range of addresses that is mapped now, by which call stack and as what."""

    start: int
    end: int
    stack: int
    kind: MappingKind
    time_ns: int


def kind_at(process: Process, address: int) -> MappingKind:
    """What is mapped at an address now: anonymous memory, where that cannot be known."""
    try:
        found = next((each for each in process.maps() if each.start <= address < each.end), None)
    except (LabError, OSError):
        return MappingKind.MAPPED
    if not found or not found.inode:
        return MappingKind.RESERVED if found and found.permissions.startswith("---") else MappingKind.MAPPED
    shared = found.permissions.endswith("s") and found.path == SHARED_ANONYMOUS
    return MappingKind.SHARED if shared else MappingKind.FILE_MAPPED


def _no_counts() -> defaultdict[int, Counts]:
    return defaultdict(Counts)


@dataclass
class MappedRanges:
    """Follows mappings through cuts, moves and replacements, page by page as the kernel does.

    What mremap moves stays its first caller's, as old as it is: only what it adds is new.

    ``counts`` are of anonymous memory, ``apart`` of the kinds that are address space only, both by call stack.
    ``kind_at`` says what is mapped at an address from before the trace.
    """

    kind_at: Callable[[int], MappingKind] = lambda _: MappingKind.MAPPED
    counts: defaultdict[int, Counts] = field(default_factory=_no_counts)
    apart: dict[MappingKind, defaultdict[int, Counts]] = field(
        default_factory=lambda: {kind: _no_counts() for kind in (MappingKind.FILE_MAPPED, MappingKind.RESERVED)}
    )
    _pieces: list[_Piece] = field(default_factory=list)
    _last_cut: dict[int, _Cut] = field(default_factory=dict)
    _older_kinds: dict[int, MappingKind] = field(default_factory=dict)

    def apply(self, events: Iterable[MappingEvent]) -> None:
        """Count events in the order in which the kernel saw them."""
        for event in events:
            end = event.address + -(-event.bytes // PAGE_BYTES) * PAGE_BYTES
            match event.kind:
                case MappingKind.UNMAPPED:
                    self._keep_cut(event.thread, _Cut(event.address, end, self._cut(event.address, end)))
                case MappingKind.RESTORED:
                    if cut := self._last_cut.pop(event.thread, None):
                        self._restore(cut.pieces)
                case MappingKind.MOVED:
                    self._cut(event.address, end)  # what it is moved onto is gone
                    self._move(self._last_cut.pop(event.thread, None), event, end)
                case _:
                    self._last_cut.pop(event.thread, None)
                    self._cut(event.address, end)  # what a fixed mapping replaces is gone
                    self._add(event, event.address, end, event.kind)

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

    def _keep_cut(self, thread: int, cut: _Cut) -> None:
        """Until the thread's next event, which says whether it failed. Threads that have ended have none."""
        self._last_cut.pop(thread, None)
        self._last_cut[thread] = cut
        if len(self._last_cut) > MAX_UNDER_WAY:
            del self._last_cut[next(iter(self._last_cut))]

    def _move(self, cut: _Cut | None, event: MappingEvent, end: int) -> None:
        """What was cut goes on at another address. What was mapped before the trace is none of its business there."""
        cut = cut or _Cut(event.address, event.address, [])
        by = event.address - cut.start
        moved = (replace(piece, start=piece.start + by, end=min(piece.end + by, end)) for piece in cut.pieces)
        pieces = self._fewer([piece for piece in moved if piece.start < piece.end])
        for piece in pieces:
            self._count(piece, sign=-1)
        at = bisect.bisect_left(self._pieces, event.address, key=lambda kept: kept.start)
        self._pieces[at:at] = pieces  # at once: nothing else is mapped there, and other mappings may be many
        grown = cut.end + by
        kind = self._kind_of(cut)
        if grown < end:
            kind = self.kind_at(event.address) if kind is None else kind
            self._add(event, grown, end, kind)
        if kind is not None and sum(piece.end - piece.start for piece in cut.pieces) < cut.end - cut.start:
            self._older_kinds[event.address] = kind  # it may shrink to what is older, and grow again

    def _kind_of(self, cut: _Cut) -> MappingKind | None:
        """The kind of a range that mremap makes longer. A copy of one leaves it uncut."""
        known = cut.pieces
        if cut.start == cut.end:
            known = [piece for piece in self._pieces if piece.start <= cut.start < piece.end]
        older = self._older_kinds.pop(cut.start, None)
        return known[-1].call.kind if known else older

    def _add(self, event: MappingEvent, start: int, end: int, kind: MappingKind) -> None:
        call = _Call(kind, event.stack, event.time_ns, end - start)
        counts = self._counts_of(call)
        counts.allocations += 1
        counts.allocated_bytes += call.bytes_left
        self._insert(_Piece(start, end, call))

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

    def _fewer(self, pieces: list[_Piece]) -> list[_Piece]:
        """Parts that were cut. Of many, neighbours that are small become one, which is as old as its lowest part."""
        if len(pieces) <= MAX_PARTS:
            return pieces
        small = 2 * sum(piece.end - piece.start for piece in pieces) // MAX_PARTS
        fewer = pieces[:1]
        for piece in pieces[1:]:
            last = fewer[-1]
            if last.end == piece.start and last.call.kind == piece.call.kind and piece.end - last.start <= small:
                self._join(last.call, piece)
                fewer[-1] = replace(last, end=piece.end)
            else:
                fewer.append(piece)
        return fewer

    def _join(self, call: _Call, piece: _Piece) -> None:
        """A piece that was cut is put back as a part of another call, which was cut as well."""
        other = piece.call
        if call.stack == other.stack and call.bytes_left == other.bytes_left == 0:
            call.calls += other.calls if other is not call else 0
            return
        counts, size = self._counts_of(call), piece.end - piece.start
        counts.allocated_bytes += size
        counts.freed_bytes += size  # until it is put back

    def _count(self, piece: _Piece, *, sign: int) -> None:
        """Count a piece as given back (1), or as not given back after all (-1)."""
        counts = self._counts_of(piece.call)
        size = (piece.end - piece.start) * sign
        was_gone = piece.call.bytes_left == 0
        piece.call.bytes_left -= size
        counts.freed_bytes += size
        counts.frees += piece.call.calls * ((piece.call.bytes_left == 0) - was_gone)
