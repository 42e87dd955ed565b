"""The lab's story in time: when the leak begins, when requests slow down, when it is time to diagnose."""

from __future__ import annotations

import enum
import time
from typing import TYPE_CHECKING, Final

from catalog_cache import Options

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DEGRADES_SECONDS", "DIAGNOSIS_SECONDS", "LEAK_STARTS_SECONDS", "Phase", "Schedule"]

LEAK_STARTS_SECONDS: Final = Options().start_delay_seconds
DEGRADES_SECONDS: Final = 30 * 60.0
DIAGNOSIS_SECONDS: Final = 60 * 60.0


class Phase(enum.StrEnum):
    """A part of the story."""

    NORMAL = "normal"
    LEAKING = "leaking"
    DEGRADED = "degraded"
    DIAGNOSIS = "diagnosis"


class Schedule:
    """Story time since this object was made: real time on ``clock`` (seconds) multiplied by ``speed``."""

    def __init__(self, speed: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.speed = speed
        self._clock = clock
        self._started = clock()

    def restart(self) -> None:
        """Begin the story anew, now: with the leak, and not with what comes before it."""
        self._started = self._clock()

    @property
    def elapsed_seconds(self) -> float:
        """Story time in seconds."""
        return (self._clock() - self._started) * self.speed

    @property
    def phase(self) -> Phase:
        """The phase that the story is in now."""
        elapsed = self.elapsed_seconds
        if elapsed < LEAK_STARTS_SECONDS:
            return Phase.NORMAL
        if elapsed < DEGRADES_SECONDS:
            return Phase.LEAKING
        if elapsed < DIAGNOSIS_SECONDS:
            return Phase.DEGRADED
        return Phase.DIAGNOSIS

    @property
    def degraded(self) -> bool:
        """True from the degraded phase on: the diagnosis phase does not fix the service."""
        return self.elapsed_seconds >= DEGRADES_SECONDS
