from __future__ import annotations

import math
import random

import pytest

from diagnosis.report.trend import FEWEST_READINGS, OPEN, Trend, certainty, chance, floor, rises, trend

READINGS = 25


@pytest.mark.parametrize("readings", [FEWEST_READINGS, READINGS, 61, 121])
def test_four_even_steps_or_more_are_steady_wherever_the_window_begins(readings: int) -> None:
    for steps in range(4, 12):
        for start in range(20):
            series = [math.floor(i * steps / readings + start / 20) for i in range(readings)]
            assert trend(series) is Trend.STEADY, (steps, start)


def test_two_steps_are_never_steady() -> None:
    for first in range(1, READINGS):
        for second in range(first, READINGS):
            series = [(i >= first) + (i >= second) for i in range(READINGS)]
            assert trend(series) in {Trend.STEPS, Trend.ENDED}, (first, second)


@pytest.mark.parametrize("seen", [1, 2, 3])
def test_two_steps_are_no_slope_however_many_readings_see_each(seen: int) -> None:
    """20 MiB are not touched in a moment: a reading in the middle of it sees half of the step."""
    for first in range(1, READINGS // 2 - seen):
        second = first + READINGS // 2
        series = [sum(min(max(i - begin + 1, 0), seen) / seen for begin in (first, second)) for i in range(READINGS)]
        assert trend(series) is Trend.STEPS, (first, second)


def test_what_rises_for_longer_is_no_step() -> None:
    """Growth for a third of the window, a pause, and as much again."""
    series = [float(min(i, 8) + max(0, i - 16)) for i in range(READINGS)]
    assert trend(series) is Trend.STEADY


def test_what_came_in_the_first_half_has_ended() -> None:
    for when in range(1, READINGS):
        series = [float(i >= when) for i in range(READINGS)]
        assert trend(series) is (Trend.ENDED if when <= (READINGS - 1) // 2 else Trend.STEPS), when


def test_a_sawtooth_is_passing_or_falls() -> None:
    """A batch that is gathered and given back, at whatever pace, and wherever the window ends in it."""
    for period in range(2, 13):
        for start in range(period):
            series = [(i + start) % period - start for i in range(READINGS)]
            assert trend(series) not in OPEN, (period, start)


def test_a_cache_that_fills_at_random_ends_or_slows_down() -> None:
    for pace in range(1, READINGS // 2):
        series = [1 - math.exp(-i / pace) for i in range(READINGS)]
        assert trend(series) in {Trend.ENDED, Trend.SLOWING}, pace
        assert (trend(series) is Trend.ENDED) == (pace <= 4), pace


def test_a_buffer_that_grows_by_half_of_itself_is_steady() -> None:
    """Its steps are even to nobody: each is half as large again as the one before, and comes half as late again."""
    for begin in range(50):
        size, series = 1.0, []
        for i in range(READINGS):
            while size < 2 + begin / 25 + i:
                size *= 1.5
            series.append(size)
        assert trend(series) is Trend.STEADY, begin


def test_short_lived_blocks_do_not_hide_a_slope() -> None:
    random_ = random.Random(1)
    for _ in range(500):
        series = [0, *(i + random_.uniform(0, READINGS / 3) for i in range(1, READINGS))]
        assert trend(series) is Trend.STEADY


def test_the_floor_is_the_least_that_is_still_to_come() -> None:
    assert floor([0, 5, 2, 7, 3, 4]) == [0, 2, 2, 3, 3, 4]
    assert [(rise.reading, rise.by) for rise in rises([0, 5, 2, 7, 3, 4])] == [(1, 2), (3, 1), (5, 1)]


def test_what_does_not_rise_has_no_trend() -> None:
    assert trend([0] * READINGS) is Trend.NONE
    assert trend([-i for i in range(READINGS)]) is Trend.NONE
    assert trend(range(FEWEST_READINGS - 1)) is Trend.FEW


def test_chance_is_counted_in_standard_deviations() -> None:
    assert chance(100, 0) == 10.0
    assert chance(5000, 5000) == 0.0
    assert chance(0, 0) == 0.0


def test_certainty_tells_a_slope_in_noise_from_a_walk() -> None:
    random_ = random.Random(2)
    noisy = [[i + random_.uniform(0, READINGS / 5) for i in range(READINGS)] for _ in range(1000)]
    assert sum(certainty(series) > 4 for series in noisy) > 950
    assert certainty(range(READINGS)) == math.inf
    walks = [[0.0] for _ in range(1000)]
    for walk in walks:
        for _ in range(READINGS - 1):
            walk.append(walk[-1] + random_.gauss(0, 1))
    assert sum(certainty(walk) > 4 for walk in walks) < 30
