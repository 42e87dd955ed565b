"""How a quantity grew over the readings of one window: steadily, in steps, at first, or not at all.

What matters of a series is its floor: at each reading, the least that any later reading still shows. Memory that was
taken and given back again never raises the floor, so that short-lived blocks, however many, are no growth and no noise
either. The floor only rises, and the rule looks at when it did.
"""

from __future__ import annotations

import enum
import math
import statistics
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Fewer readings show no trend.
FEWEST_READINGS = 12

# A growth of which one step brings more than this share came at once. Four even steps bring a quarter each; a buffer
# that grows by half of itself whenever it is full brings 47 % in the last of three.
LARGEST_STEP = 0.48

# Growth of which the second half of the window brought less than this share has ended.
ENDED = 0.05

# The first third brings at least this share of a steady growth, and so does the last one.
LEAST_OF_A_THIRD = 0.1

# Growth is slowing down where the second half, and one more step, bring less than this share of the first half.
SLOWING = 0.5

# A pause at the end is no end as long as it is not this many times longer than one before.
PAUSE = 1.6

# What fell by this share of its growth, within the window, comes and goes.
PASSING_FALL = 0.75

# A rise of the floor by less than this share of its whole is no step.
SMALLEST_STEP = 0.02

# A step that takes a while is seen by up to this share of the readings, one after the other.
LONGEST_STEP = 1 / 8

# By chance alone a difference of this many standard deviations comes once in 30,000 windows, and once in 740.
UNLIKELY_CHANCE = 4.0
SELDOM_CHANCE = 3.0


class Trend(enum.Enum):
    """What a series did."""

    STEADY = "steady"  # it rises in every part of the window
    STEPS = "steps"  # one rise or two bring most of it
    LATE = "late"  # it began within the window
    SLOWING = "slowing"  # it rises less and less
    ENDED = "ended"  # it rose at first and no more
    PASSING = "passing"  # it fell by as much as it rose
    FEW = "few"  # there are too few readings
    NONE = "none"  # it does not rise


# What can go on.
OPEN = frozenset({Trend.STEADY, Trend.STEPS, Trend.LATE, Trend.SLOWING, Trend.FEW})


@dataclass(frozen=True)
class Rise:
    """One rise of the floor: at which reading, and by how much."""

    reading: int
    by: float


def floor(series: Sequence[float]) -> list[float]:
    """At each reading the least that it or a later one shows."""
    return list(accumulate(reversed(series), min))[::-1]


def rises(series: Sequence[float]) -> list[Rise]:
    """Where the floor rises by a step worth the name."""
    low = floor(series)
    whole = low[-1] - low[0]
    return [
        Rise(reading, b - a)
        for reading, (a, b) in enumerate(pairwise(low), start=1)
        if b - a > SMALLEST_STEP * whole > 0
    ]


def steps_of(found: Sequence[Rise], readings: int) -> list[Rise]:
    """Rises with quiet before and after them: what several readings in a row saw of one step is put together.

    Growth that goes on for longer is no step, and stays as it was seen.
    """
    runs: list[list[Rise]] = []
    for rise in found:
        if runs and rise.reading == runs[-1][-1].reading + 1:
            runs[-1].append(rise)
        else:
            runs.append([rise])
    steps: list[Rise] = []
    for run in runs:
        short = len(run) <= max(1, round(readings * LONGEST_STEP))
        steps += [Rise(run[-1].reading, sum(rise.by for rise in run))] if short else run
    return steps


def trend(series: Sequence[float]) -> Trend:
    """What a series of readings at even distances did."""
    if series[-1] <= series[0]:
        return Trend.NONE
    if len(series) < FEWEST_READINGS:
        return Trend.FEW
    low = floor(series)
    last = len(low) - 1
    whole = low[last] - low[0]
    shape = _shape(low, whole, steps_of(rises(series), len(series)))
    if shape is not Trend.STEADY and deepest_fall(series) >= PASSING_FALL * (series[-1] - series[0]):
        return Trend.PASSING
    return shape


def _shape(low: Sequence[float], whole: float, steps: Sequence[Rise]) -> Trend:
    last = len(low) - 1
    first_half = low[last // 2] - low[0]
    second_half = low[last] - low[last // 2]
    largest = max(step.by for step in steps) if steps else 0.0
    if second_half < ENDED * whole:
        return Trend.ENDED
    if largest > LARGEST_STEP * whole:
        return Trend.STEPS
    if low[round(last / 3)] - low[0] < LEAST_OF_A_THIRD * whole:
        return Trend.LATE
    if second_half + largest < SLOWING * first_half or _has_paused(low, whole, steps):
        return Trend.SLOWING
    return Trend.STEADY


def _has_paused(low: Sequence[float], whole: float, steps: Sequence[Rise]) -> bool:
    """True where the last third brought next to nothing, and no pause before was as long."""
    last = len(low) - 1
    if low[last] - low[round(last * 2 / 3)] >= LEAST_OF_A_THIRD * whole:
        return False
    at = [0, *(step.reading for step in steps)]
    longest = max(b - a for a, b in pairwise(at))
    return last - at[-1] > PAUSE * longest


def deepest_fall(series: Sequence[float]) -> float:
    """By how much the series ever fell below what it had come to before."""
    return max(high - now for high, now in zip(accumulate(series, max), series, strict=True))


def chance(taken: int, returned: int) -> float:
    """By how many standard deviations the blocks taken exceed the blocks returned, if both came by chance.

    Poisson: each count has its own value as its variance.
    """
    return (taken - returned) / math.sqrt(taken + returned) if taken + returned else 0.0


def certainty(series: Sequence[float]) -> float:
    """By how many standard deviations a growth exceeds what the series' own ups and downs can add up to.

    The changes over a quarter of the window, less the mean one, say how far the series wanders. Short-lived blocks come
    and go about a line: their changes do not add up, and a leak beside them stands out. A random walk's do.
    Infinite for a series that rises evenly.
    """
    last = len(series) - 1
    lag = max(1, last // 4)
    growth = series[-1] - series[0]
    changes = [b - a - growth * lag / last for a, b in zip(series, series[lag:], strict=False)]
    spread = math.sqrt(statistics.fmean(change**2 for change in changes))
    return growth / (spread * math.sqrt(last / lag)) if spread else math.inf
