"""How often the verdict is wrong: made-up windows of known truth, thousands of each kind.

`python -m tests.diagnosis.rule_statistics` prints the table that docs/DIAGNOSIS.md shows.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from diagnosis.report.history import Evidence, SiteHistory
from diagnosis.report.site import CallSite
from diagnosis.report.verdict import Answer, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

KIB, MIB = 1024, 1024 * 1024
SECONDS = 30.0
READINGS = 25
SEED = 20_000


def evidence(
    series: Sequence[float],
    allocations: int,
    frees: int,
    *,
    older_frees: int = 0,
    oldest: float = SECONDS,
    kept: float | None = None,
    late: int | None = None,
    first: float = 0,
) -> Evidence:
    """A window in which one site is all that there is: the process's memory goes with it.

    ``kept`` are bytes taken in its first two thirds that are still there; by default two thirds of the growth, if any
    are as old. ``late`` are the allocations of its second half; by default half of them.
    """
    held = tuple(round(each) for each in series)
    if kept is None:
        kept = held[-1] * 2 / 3 if oldest > SECONDS / 3 else 0
    site = SiteHistory(
        CallSite("grow", "main"),
        held,
        allocations,
        frees,
        oldest,
        older_frees,
        kept_bytes=math.ceil(kept),
        late_allocations=allocations // 2 if late is None else late,
        first_bytes=math.ceil(first),
    )
    return Evidence(SECONDS, [site], live=held, memory=held)


def at_readings(events: Iterable[tuple[float, float]]) -> list[float]:
    """The sum at each reading of (moment, change); moments from 0 to 1."""
    ordered = sorted(events)
    moments = [moment for moment, _ in ordered]
    sums = [0.0, *itertools.accumulate(change for _, change in ordered)]
    return [sums[bisect.bisect_right(moments, reading / (READINGS - 1))] for reading in range(READINGS)]


# --- what is no leak ---


def random_walk(chance: random.Random) -> Evidence:
    """Takes and frees by chance, the newest block first: old ones survive by chance."""
    block = 4 * KIB
    steps = [round(chance.gauss(0, 256)) for _ in range(READINGS - 1)]
    taken, freed = sum(step for step in steps if step > 0), -sum(step for step in steps if step < 0)
    series = [block * each for each in itertools.accumulate(steps, initial=0)]
    older = max(0, -min(series) // block)
    return evidence(series, taken, freed - older, older_frees=older)


def equilibrium(chance: random.Random) -> Evidence:
    """Sessions that come by chance and stay for a while, as many as go: from seconds to twenty windows."""
    block = chance.choice([200, 8000, 64 * KIB])
    arrivals = chance.choice([30, 100, 300, 1000])
    stay = math.exp(chance.uniform(math.log(0.05), math.log(20)))
    events, allocations, frees, oldest, kept = [], 0, 0, 0.0, 0
    for birth in poisson(chance, arrivals):
        allocations += 1
        events.append((birth, block))
        death = birth + chance.expovariate(1 / stay)
        if death <= 1:
            frees += 1
            events.append((death, -block))
        else:
            oldest = max(oldest, 1 - birth)
            kept += block * (birth < 2 / 3)
    # Those of before: arrivals * stay of them, whose rest of life is as long as any life.
    older = [
        -stay * math.log(1 - share * (1 - math.exp(-1 / stay)))
        for share in poisson(chance, arrivals * stay * (1 - math.exp(-1 / stay)))
    ]
    events += [(death, -block) for death in older]
    return evidence(at_readings(events), allocations, frees, older_frees=len(older), oldest=oldest * SECONDS, kept=kept)


def first_in_first_out(chance: random.Random) -> Evidence:
    """A table of sessions that all live for the same time, longer than the window or shorter."""
    block, arrivals, stay = 8000, chance.choice([50, 500, 2000]), chance.uniform(0.1, 3)
    births = list(poisson(chance, arrivals))
    deaths = [birth + stay for birth in births if birth + stay <= 1]
    older = list(poisson(chance, arrivals * min(1.0, stay)))
    older = [share * min(1.0, stay) for share in older]
    events = [(at, block) for at in births] + [(at, -block) for at in deaths + older]
    alive = [1 - birth for birth in births if birth + stay > 1]
    return evidence(
        at_readings(events), len(births), len(deaths), older_frees=len(older), oldest=max(alive, default=0) * SECONDS
    )


def full_cache(chance: random.Random) -> Evidence:
    """Each put frees the entry that it replaces: of before the window, or of the window."""
    puts, places = chance.choice([200, 2000]), chance.choice([50, 1000, 20_000])
    own: dict[int, float] = {}
    older = frees = 0
    for put in range(puts):
        place = chance.randrange(places)
        older, frees = (older, frees + 1) if place in own else (older + 1, frees)
        own[place] = put / puts
    oldest = 1 - min(own.values(), default=1.0)
    series = [0.0, *(chance.choice([-8000, 0, 8000]) for _ in range(READINGS - 1))]
    return evidence(series, puts, frees, older_frees=older, oldest=oldest * SECONDS)


def warm_cache(chance: random.Random) -> Evidence:
    """Fills at random places and is full before half of the window is over."""
    pace, seen = chance.uniform(0.02, 0.15), chance.uniform(0, 0.8)
    series = [16 * MIB * (1 - seen) * (1 - math.exp(-reading / (READINGS - 1) / pace)) for reading in range(READINGS)]
    puts = 15_000
    kept = round(series[-1] / 8000)
    return evidence(series, puts, puts - kept)


def sawtooth(chance: random.Random) -> Evidence:
    """A batch that is gathered and given back, at whatever pace, and wherever the window ends in it."""
    period, phase = chance.uniform(2, (READINGS - 1) / 2), chance.random()
    at = [(reading / period + phase) % 1 for reading in range(READINGS)]
    series = [8 * MIB * (each - at[0]) for each in at]
    batches = int((READINGS - 1) / period + phase)
    rows = 400
    older = round(rows * at[0]) if batches else 0
    allocations = round(rows * (READINGS - 1) / period)
    frees = max(0, batches * rows - older)
    return evidence(series, allocations, frees, older_frees=older, oldest=at[-1] * period / (READINGS - 1) * SECONDS)


# --- what is one ---


def slope(chance: random.Random) -> Evidence:
    """From 64 KiB a window on, beside short-lived blocks of up to a quarter of it."""
    growth = math.exp(chance.uniform(math.log(70 * KIB), math.log(GIB)))
    noise = growth * chance.uniform(0, 0.25)
    series = [0.0, *(growth * i / (READINGS - 1) + chance.uniform(0, noise) for i in range(1, READINGS))]
    kept = chance.choice([30, 300, 3000])
    passing = chance.choice([0, 10, 1000]) * kept if noise else 0
    return evidence(series, kept + passing, passing)


GIB = 1024 * MIB


def steps(chance: random.Random) -> Evidence:
    """Four to a dozen even steps, wherever in a step the window begins."""
    count, start = chance.randint(4, 12), chance.random()
    series = [MIB * math.floor(reading * count / READINGS + start) for reading in range(READINGS)]
    series = [each - series[0] for each in series]
    return evidence(series, 16 * round(series[-1] / MIB), 0)


def grown_buffer(chance: random.Random) -> Evidence:
    """A buffer that is filled evenly and grows by half of itself when it is full. Its birth is its first block's."""
    rate, begin = 4 * MIB * chance.uniform(0.5, 2), chance.uniform(1, 4)
    first = 64 * KIB * chance.uniform(1, 1.5)

    def size(seconds: float) -> float:
        held = first
        while held < rate * seconds:
            held *= 1.5
        return held

    series = [size(begin + SECONDS * reading / (READINGS - 1)) for reading in range(READINGS)]
    series = [each - series[0] for each in series]
    # Each growth frees the old buffer and takes the new one.
    return evidence(series, 8, 0)


def bursts(chance: random.Random) -> Evidence:
    """Two at any distance from a third of the window on: it can go on, and nobody can say that it will."""
    second = chance.uniform(0.55, 0.99)
    first = chance.uniform(0.0, second - 1 / 3)
    series = at_readings([(first, 100 * MIB), (second, 100 * MIB)])
    series = [each - series[0] for each in series]
    return evidence(series, 10_000, 0)


def one_burst(chance: random.Random) -> Evidence:
    """Wherever in the window it comes: it can come again, and nobody can say whether."""
    at, blocks = chance.uniform(0.02, 0.99), 10_000
    series = at_readings([(at, 100 * MIB)])
    return evidence(series, blocks, 0, oldest=(1 - at) * SECONDS, late=blocks * (at > 1 / 2))


def covered(chance: random.Random) -> Evidence:
    """A leak at a site whose other blocks pass and are up to sixteen times larger, wherever the window ends in one."""
    leak, size, often = 4 * MIB, 4 * MIB * chance.uniform(1, 16), chance.uniform(0.05, 0.95)
    series = [leak * i / (READINGS - 1) + size * (i > 0 and chance.random() < often) for i in range(READINGS)]
    return evidence(series, 3600, 3000, kept=leak * 2 / 3, first=leak / 3)


@dataclass(frozen=True)
class Kind:
    """A kind of window, and how many of it are tried."""

    make: Callable[[random.Random], Evidence]
    tries: int
    text: str


SOUND = (
    Kind(random_walk, 20_000, "random walks"),
    Kind(equilibrium, 5000, "sessions by chance, from a twentieth of a window to twenty windows long"),
    Kind(first_in_first_out, 5000, "sessions of one length, first in first out"),
    Kind(full_cache, 3000, "full caches that replace at random"),
    Kind(warm_cache, 3000, "caches that become full in the first half"),
    Kind(sawtooth, 4000, "batches gathered and given back"),
)
LEAKING = (
    Kind(slope, 5000, "even leaks beside short-lived blocks of up to a quarter of them"),
    Kind(steps, 5000, "leaks in four to twelve steps"),
    Kind(grown_buffer, 5000, "buffers that grow by half of themselves"),
    Kind(bursts, 5000, "two bursts"),
    Kind(one_burst, 5000, "one burst"),
    Kind(covered, 5000, "leaks beside passing blocks that are larger, up to sixteen times"),
)


@cache
def answers(kind: Kind) -> Counter[Answer]:
    """How often each verdict is given."""
    chance = random.Random(SEED)
    return Counter(find(kind.make(chance)).answer for _ in range(kind.tries))


def poisson(chance: random.Random, expected: float) -> Iterable[float]:
    """Moments from 0 to 1 that come by chance."""
    at = chance.expovariate(expected) if expected > 0 else 1.0
    while at < 1:
        yield at
        at += chance.expovariate(expected)


def table() -> str:
    """The table, in Markdown."""
    rows = ["| windows of | tried | leak | growing | no leak |", "|---|---|---|---|---|"]
    for kind in (*SOUND, *LEAKING):
        found = answers(kind)
        shares = " | ".join(f"{found[answer] / kind.tries:.2%}" for answer in Answer)
        rows.append(f"| {kind.text} | {kind.tries:,} | {shares} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Print the table."""
    sys.stdout.write(table())


if __name__ == "__main__":
    main()
