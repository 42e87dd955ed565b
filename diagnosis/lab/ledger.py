"""The leaker's own ledger, and a way to read it and the tracer at the same moment.

A diagnosis is graded by the ledger. It counts in the leaking process, the tracer counts in the kernel. Both use the
same clock (CLOCK_MONOTONIC), and the ledger keeps its idle intervals: the time between two refreshes, with the counts
that were valid throughout. A reading of the tracer that began and ended within one idle interval belongs to its counts,
to the byte, however long the ledger takes to answer afterwards. Where a refresh came in between, the tracer is read
again.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from diagnosis.base.errors import LabError
from diagnosis.base.text import safe_text
from diagnosis.lab.answers import UNUSABLE, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")

# A refresh of 1 MiB takes about a millisecond and comes every 13 ms at speed 600: most readings fall into an
# idle interval.
ALIGN_TRIES = 1000

# On a busy machine a reading nearly always takes longer than an idle interval: it is tried for so long.
# Not for long: at speed 600 a second is ten minutes of the story.
ALIGN_SECONDS = 3.0

# Nor before so many tries: a machine that paused for seconds has not shown that the ledger moves too fast.
FEWEST_TRIES = 5

# The highest priority that nice(2) knows: for the milliseconds in which the tracer is read.
HURRY = -20
NANOSECONDS = 1_000_000_000
TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class IdleInterval:
    """A time without a refresh, in ns of CLOCK_MONOTONIC, and the counts throughout it."""

    since_ns: int
    until_ns: int
    inserts: int
    insert_bytes: int


@dataclass(frozen=True)
class LedgerWindow:
    """What the ledger counted between the two ends of a traced window."""

    bytes: int
    calls: int
    start: IdleInterval
    end: IdleInterval


@dataclass(frozen=True)
class Reading:
    """One reading of the ledger: counts since the service started. ``elapsed_seconds`` are the story's."""

    inserts: int
    insert_failures: int
    insert_bytes: int
    entries_live: int
    bytes_live: int
    refreshes: int
    elapsed_seconds: float
    phase: str
    speed: float
    chunk_bytes: int
    cap_bytes: int
    idle_intervals: tuple[IdleInterval, ...]

    @property
    def leaked_bytes_per_minute(self) -> float:
        """The average rate so far, in bytes per minute of real time."""
        minutes = self.elapsed_seconds / self.speed / 60
        return self.insert_bytes / minutes if minutes else 0.0


class LedgerClient:
    """Reads the ledger over HTTP, on one connection.

    Args:
        url: such as ``http://127.0.0.1:9091/ledger``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False)

    def read(self) -> Reading:
        """One reading.

        Raises:
            LabError: the ledger does not answer as a ledger.
        """
        try:
            answer = self._client.get(self.url)
            answer.raise_for_status()
            return parse(answer.json())
        except UNUSABLE as error:
            raise LabError(
                f"no ledger at {self.url}: {reason_of(error)}",
                "name the service's: --ledger http://127.0.0.1:9091/ledger",
            ) from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def parse(body: Mapping[str, Any]) -> Reading:
    """A reading from the JSON of ``/ledger``; what else it says is left out.

    Raises:
        KeyError: a field is missing.
    """
    fields = {name: body[name] for name in Reading.__dataclass_fields__}
    idle = tuple(IdleInterval(**interval) for interval in body["idle_intervals"])
    return Reading(**{**fields, "phase": safe_text(fields["phase"]), "idle_intervals": idle})


def align(
    read: Callable[[], Reading], take: Callable[[], T], clock_ns: Callable[[], int] = time.monotonic_ns
) -> tuple[IdleInterval, T]:
    """Take something at a moment for which the ledger's counts are known: returns these, and what was taken.

    Raises:
        LabError: a refresh came in between at every try, or the ledger did not answer.
    """
    first, tries = None, 0
    with _hurry():
        while tries < ALIGN_TRIES:
            tries += 1
            began = clock_ns()
            taken = take()
            ended = clock_ns()
            for idle in read().idle_intervals:
                if idle.since_ns <= began and ended <= idle.until_ns:
                    return idle, taken
            first = began if first is None else first
            if tries >= FEWEST_TRIES and ended - first > ALIGN_SECONDS * NANOSECONDS:
                break
    raise LabError(
        f"the ledger moved during each of {tries} readings", "run the service at a lower --speed, on this machine"
    )


@contextlib.contextmanager
def _hurry() -> Iterator[None]:
    """Let this thread run before others, where that is allowed: a reading that waits for a processor is in vain."""
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, HURRY)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, usual)


class Alignment:
    """Takes the samples at a window's ends at moments for which the ledger's counts are known, and keeps these.

    A sample is worth more than its grade: where no such moment comes, it is taken at any moment, and the window has no
    ledger. ``missed`` then says why.

    Args:
        read: reads the ledger.
    """

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read
        self._counts: list[IdleInterval | None] = []
        self.missed = "the process ended before the window did"

    def __call__(self, take: Callable[[], T]) -> T:
        """Take a sample at such a moment, or at any.

        Raises:
            LabError: `take` failed.
        """
        try:
            idle, taken = align(self._read, take)
        except LabError as error:
            self.missed = error.what
            self._counts.append(None)
            return take()
        self._counts.append(idle)
        return taken

    def window(self, detached: str = "") -> LedgerWindow | None:
        """What the ledger counted from the first moment to the last; None where there were not two.

        Nor is there one where the probes were detached before the last, for the reason ``detached``: the trace then
        counted nothing of what the ledger went on to count.
        """
        if detached:
            self.missed = detached
            return None
        if len(self._counts) < 2:
            return None
        start, end = self._counts[0], self._counts[-1]
        if start is None or end is None:
            return None
        return LedgerWindow(end.insert_bytes - start.insert_bytes, end.inserts - start.inserts, start, end)
