"""Takes one window of measurements of a traced process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from diagnosis.ledger import align
from diagnosis.report import Window
from diagnosis.verdict import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from diagnosis.ledger import LedgerClient, Quiet
    from diagnosis.process import Resident
    from diagnosis.tracer import Snapshot, Tracer

# Twice what the verdict needs, so that a sample that comes late costs nothing.
SAMPLES_PER_WINDOW = 2 * SAMPLES


def measure(
    tracer: Tracer,
    seconds: float,
    *,
    ledger: LedgerClient | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Window:
    """Watch a traced process for a while.

    Args:
        tracer: with its probes in.
        seconds: how long.
        ledger: where the process keeps one; both ends of the window are then aligned with it.
        pause: waits for a number of seconds; whatever it raises ends the window.

    Raises:
        LabError: the process ended, or its ledger cannot be read.
    """

    def take() -> tuple[Snapshot, Resident]:
        return tracer.snapshot(), tracer.process.resident()

    def end_point() -> tuple[Quiet | None, tuple[Snapshot, Resident]]:
        return align(ledger.read, take) if ledger else (None, take())

    ledger_start, (first, resident_start) = end_point()
    samples = [first]
    for number in range(1, SAMPLES_PER_WINDOW):
        pause(max(0.0, first.seconds + seconds * number / SAMPLES_PER_WINDOW - time.monotonic()))
        samples.append(tracer.snapshot())
    pause(max(0.0, first.seconds + seconds - time.monotonic()))
    ledger_end, (last, resident_end) = end_point()
    samples.append(last)
    return Window(
        samples=tuple(samples),
        survivors=tracer.survivors(first),
        resident_start=resident_start,
        resident_end=resident_end,
        lost=tracer.lost(),
        ledger_start=ledger_start,
        ledger_end=ledger_end,
    )
