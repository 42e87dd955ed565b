from __future__ import annotations

import pytest

from service.schedule import Phase, Schedule


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("elapsed", "phase", "degraded"),
    [
        (0, Phase.NORMAL, False),
        (29.9, Phase.NORMAL, False),
        (30, Phase.LEAKING, False),
        (1799.9, Phase.LEAKING, False),
        (1800, Phase.DEGRADED, True),
        (3599.9, Phase.DEGRADED, True),
        (3600, Phase.DIAGNOSIS, True),
        (100_000, Phase.DIAGNOSIS, True),
    ],
)
def test_phases_by_elapsed_time(elapsed: float, phase: Phase, degraded: bool) -> None:
    clock = Clock()
    schedule = Schedule(1.0, clock)
    clock.now += elapsed
    assert schedule.phase is phase
    assert schedule.degraded is degraded


def test_a_restart_begins_the_story_anew() -> None:
    clock = Clock()
    schedule = Schedule(1.0, clock)
    clock.now += 1800
    schedule.restart()
    assert (schedule.elapsed_seconds, schedule.phase) == (0, Phase.NORMAL)


def test_speed_makes_the_same_story_shorter() -> None:
    clock = Clock()
    schedule = Schedule(60.0, clock)
    clock.now += 31.0
    assert schedule.elapsed_seconds == pytest.approx(1860)
    assert schedule.phase is Phase.DEGRADED
