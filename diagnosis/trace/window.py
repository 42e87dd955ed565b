"""Takes one window of measurements of a traced process."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.lab.ledger import align
from diagnosis.report.verdict import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from heap_trace import Lost

    from diagnosis.lab.claims import ClaimsWindow
    from diagnosis.lab.ledger import LedgerClient, Quiet
    from diagnosis.target.process import Resident
    from diagnosis.target.symbols import Symbolizer
    from diagnosis.trace.tracer import Snapshot, Survivors, Tracer

# Twice what the verdict needs, so that a sample that comes late costs nothing.
SAMPLES_PER_WINDOW = 2 * SAMPLES

# A window without an end is sampled this often at first, in seconds, and half as often whenever it has twice as many
# samples as it needs: memory stays the same however long it takes.
OPEN_INTERVAL_SECONDS = 0.1


class Ending(enum.Enum):
    """How a window came to its end."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    EXITED = "exited"
    EXECED = "execed"


@dataclass(frozen=True)
class Sample:
    """One look: the counts by stack, and resident memory."""

    snapshot: Snapshot
    resident: Resident


@dataclass(frozen=True)
class Window:
    """The measurements of one window, taken while the probes were in."""

    samples: tuple[Sample, ...]
    survivors: Mapping[int, Survivors]
    lost: Mapping[Lost, int]
    ending: Ending = Ending.COMPLETE
    children: tuple[int, ...] = ()
    claims: ClaimsWindow | None = None
    ledger_start: Quiet | None = None
    ledger_end: Quiet | None = None

    @property
    def seconds(self) -> float:
        """How long the window was."""
        return self.samples[-1].snapshot.seconds - self.samples[0].snapshot.seconds


@dataclass
class _Sampler:
    """When to look, and which looks to keep."""

    seconds: float | None
    interval: float

    @classmethod
    def over(cls, seconds: float | None) -> _Sampler:
        return cls(seconds, seconds / SAMPLES_PER_WINDOW if seconds is not None else OPEN_INTERVAL_SECONDS)

    def thin(self, samples: list[Sample]) -> None:
        """Drop every second look of a window that is getting long. The first one stays: all else is counted from it."""
        if self.seconds is None and len(samples) > 2 * SAMPLES_PER_WINDOW:
            del samples[1::2]
            self.interval *= 2


def measure(
    tracer: Tracer,
    symbolizer: Symbolizer,
    seconds: float | None,
    *,
    ledger: LedgerClient | None = None,
    pause: Callable[[float], bool],
) -> Window:
    """Watch a traced process for a while, or until it ends or becomes another program.

    Args:
        tracer: with its probes in.
        symbolizer: keeps the process's files open, so that its stacks can be named also after its end.
        seconds: how long; None for until `pause` says so.
        ledger: where the process keeps one; both ends of the window are then aligned with it.
        pause: waits for a number of seconds, and says whether to go on.

    Raises:
        LabError: the process ended before it was looked at twice, or its ledger cannot be read.
    """
    process = tracer.process
    program = process.program()

    def look() -> Sample:
        return Sample(tracer.snapshot(), process.resident())

    def end_point() -> tuple[Quiet | None, Sample]:
        return align(ledger.read, look) if ledger else (None, look())

    symbolizer.refresh()
    ledger_start, first = end_point()
    ledger_end: Quiet | None = None
    samples, sampler, ending = [first], _Sampler.over(seconds), Ending.COMPLETE
    children: tuple[int, ...] = ()
    end = None if seconds is None else first.snapshot.seconds + seconds
    while True:
        due = samples[-1].snapshot.seconds + sampler.interval
        going_on = pause(max(0.0, min(due, end or due) - time.monotonic()))
        if process.program() != program:
            ending = Ending.EXECED if process.alive() else Ending.EXITED
            if ending is Ending.EXITED:  # the maps in the kernel outlive it, its resident memory does not
                samples.append(Sample(tracer.snapshot(), samples[-1].resident))
            break
        symbolizer.refresh()
        children = process.children()
        last = not going_on or (end is not None and time.monotonic() >= end)
        try:
            if last:
                ending = Ending.COMPLETE if going_on else Ending.STOPPED
                ledger_end, sample = end_point()
                samples.append(sample)
                break
            samples.append(look())
        except LabError:
            if process.alive():
                raise
            continue  # it ended just now: seen at the next turn
        sampler.thin(samples)
    if len(samples) < 2:
        raise LabError(f"pid {process.pid} became another program at once", "trace it again: it is the new one now")
    return Window(
        samples=tuple(samples),
        survivors=tracer.survivors(first.snapshot),
        lost=tracer.lost(),
        ending=ending,
        children=children,
        ledger_start=ledger_start,
        ledger_end=ledger_end,
    )
