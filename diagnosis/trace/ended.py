"""What processes of a group did that have ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from diagnosis.target.process import Resident
from diagnosis.trace.counts import Counts
from diagnosis.trace.named import merge_lost, merge_older, merge_snapshots, merge_survivors
from diagnosis.trace.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heap_trace import Lost, Older

    from diagnosis.target.allocator import Allocator
    from diagnosis.trace.named import NamedTracer
    from diagnosis.trace.snapshot import Survivors


@dataclass(frozen=True)
class Legacy:
    """What one process did by its end, and what it held then of what it took since a snapshot."""

    snapshot: Snapshot
    survivors: Mapping[int, Survivors]
    older: Mapping[int, Older]
    lost: Mapping[Lost, int]
    lost_names: Mapping[str, str]
    allocators: Mapping[str, Allocator]
    worker: bool
    fatal_signal: str

    @classmethod
    def of(cls, traced: NamedTracer, since: Snapshot | None, *, worker: bool) -> Legacy:
        """Read it. To name its stacks can take a second.

        Args:
            traced: the process, whose probes are detached.
            since: the snapshot.
            worker: it ran the group's program to its end.
        """
        snapshot = traced.snapshot()
        if not worker:
            snapshot = replace(snapshot, counts=_given_back(snapshot.counts), apart={})
        tracer = traced.tracer
        return cls(
            snapshot=snapshot,
            survivors=traced.survivors(since) if since and worker else {},
            older=traced.older(),
            lost=tracer.lost(),
            lost_names=traced.symbolizer.lost_names(),
            allocators={each.name: each for each in tracer.allocators if each.blind_spots},
            worker=worker,
            fatal_signal=tracer.fatal_signal(),
        )


@dataclass
class Ended:
    """What processes that have ended did, all together.

    What a worker held was never given back by its code: it stays outstanding, as recycling workers is how such a leak
    is hidden. What another program held has gone with it.
    """

    workers: int = 0
    others: int = 0
    snapshot: Snapshot = field(default_factory=lambda: Snapshot(0.0, {}))
    older: Mapping[int, Older] = field(default_factory=dict)
    lost: Mapping[Lost, int] = field(default_factory=dict)
    grown: Resident = field(default_factory=lambda: Resident(0, 0))
    allocators: dict[str, Allocator] = field(default_factory=dict)
    lost_names: dict[str, str] = field(default_factory=dict)
    fatal_signal: str = ""
    _survivors: Mapping[int, Survivors] = field(default_factory=dict)
    _survivors_at: float = 0.0

    def survivors(self, now: float) -> dict[int, Survivors]:
        """What they held when they ended: it grows older."""
        aged = now - self._survivors_at
        return {
            stack: replace(each, oldest_seconds=each.oldest_seconds + aged) for stack, each in self._survivors.items()
        }

    def add(self, legacy: Legacy) -> None:
        """Keep what one of them did."""
        now = time.monotonic()
        self.workers += legacy.worker
        self.others += not legacy.worker
        self.snapshot = merge_snapshots(now, (self.snapshot, legacy.snapshot))
        self.older = merge_older((self.older, legacy.older))
        self.lost = merge_lost((self.lost, legacy.lost))
        self._survivors = merge_survivors((self.survivors(now), legacy.survivors))
        self._survivors_at = now
        self.lost_names |= legacy.lost_names
        self.allocators |= legacy.allocators
        self.fatal_signal = self.fatal_signal or legacy.fatal_signal


class Refusals:
    """Why processes are not traced: of the first ones; the others are counted, as a program can start some for days."""

    SHOWN = 3

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._more = 0

    def add(self, note: str) -> None:
        """One more."""
        if len(self._shown) < self.SHOWN:
            self._shown.append(note)
        else:
            self._more += 1

    def notes(self) -> list[str]:
        """What a reader has to know."""
        return [*self._shown, *([f"{self._more} other processes are not traced either."] if self._more else [])]


def total(one: Resident, other: Resident, *, sign: int = 1) -> Resident:
    """The sums of two processes' sizes, or with sign -1 their differences."""
    return Resident(*(getattr(one, each.name) + sign * getattr(other, each.name) for each in fields(Resident)))


def _given_back(counts: Mapping[int, Counts]) -> dict[int, Counts]:
    return {
        stack: Counts(each.allocations, each.allocated_bytes, each.allocations, each.allocated_bytes)
        for stack, each in counts.items()
    }
