"""Keeps a trace from doing harm: the tracer gets its turn beside any load, and the probes go when they must.

A process under probes can make so much work that the tracer itself waits for a processor, and its probes stay in longer
than was asked. So it runs at a higher priority while they are in, and a thread of its own detaches them at a deadline,
or when the process makes more calls than the user allows.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import TYPE_CHECKING

from heap_trace import TraceClosedError, TraceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The highest priority of ordinary scheduling: threads that the tracer starts meanwhile have it too.
HIGHEST_NICENESS = -20
# After the end of a window: the last sample is taken within it.
GRACE_SECONDS = 2.0
CHECK_SECONDS = 0.25
PAUSED_LOOKS = 4


@contextmanager
def raised_priority() -> Iterator[None]:
    """Run at the highest ordinary priority; where that is not allowed, as before."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, HIGHEST_NICENESS)
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


class Watchdog:
    """A thread that detaches probes when it is time.

    Args:
        detach: detaches them; what was counted can still be read afterwards.
        count_calls: how many calls the probes have seen so far.
        max_rate: calls a second above which they are detached; None for any number.
    """

    def __init__(self, detach: Callable[[], None], count_calls: Callable[[], int], max_rate: float | None) -> None:
        self._detach, self._count_calls, self._max_rate = detach, count_calls, max_rate
        self._deadline = float("inf")
        self._closing = Event()
        self._thread = Thread(target=self._watch, name="watchdog", daemon=True)
        self.reason = ""

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def set_deadline(self, seconds: float) -> None:
        """Detach `GRACE_SECONDS` after a time of the monotonic clock."""
        self._deadline = seconds + GRACE_SECONDS

    def close(self) -> None:
        """Watch no more."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        looked, overdue, calls = time.monotonic(), False, 0
        with suppress(TraceError, TraceClosedError):  # closed meanwhile: there is nothing left to detach
            while not self._closing.wait(CHECK_SECONDS):
                now = time.monotonic()
                # After a pause of the whole machine the one who measures has had no turn either: it has one now.
                paused = now - looked > PAUSED_LOOKS * CHECK_SECONDS
                late, overdue = overdue, now >= self._deadline
                if overdue and (late or not paused):
                    self.reason = f"the window was over {GRACE_SECONDS:g} s before: the tracer did not get its turn"
                elif self._max_rate is not None:
                    counted = self._count_calls()
                    rate = (counted - calls) / (now - looked)
                    if rate > self._max_rate:
                        self.reason = f"{rate:,.0f} calls a second are more than --max-rate {self._max_rate:g}"
                    calls = counted
                looked = now
                if self.reason:
                    self._detach()
                    return
