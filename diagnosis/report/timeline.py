"""A window's readings over time: what the trace counted as kept, beside the memory of the process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diagnosis.trace.window import Sample, Window


@dataclass(frozen=True)
class TimelinePoint:
    """One reading.

    Attributes:
        seconds: since the first reading.
        outstanding_bytes: taken since then and kept.
        resident_bytes: resident memory, as the kernel counts it.
    """

    seconds: float
    outstanding_bytes: int
    resident_bytes: int


def timeline(window: Window) -> tuple[TimelinePoint, ...]:
    """The readings of a window, in order."""
    first = window.samples[0].snapshot

    def kept(sample: Sample) -> int:
        changes = sample.snapshot.since(first).values()
        return sum(max(0, counts.outstanding_bytes) for counts in changes)

    return tuple(
        TimelinePoint(sample.snapshot.seconds - first.seconds, kept(sample), sample.resident.total_bytes)
        for sample in window.samples
    )
