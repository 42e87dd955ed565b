from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest

from diagnosis.report.site import CallSite
from diagnosis.report.verdict import SAMPLES, SMALLEST_LEAK_BYTES, SiteHistory, is_leak, judge, keeps_growing

KIB = 1024
MIB = 1024 * KIB
WINDOW = 30.0
LOOKS = 25


def site(*outstanding: float, function: str = "grow", caller: str = "main", oldest: float = WINDOW) -> SiteHistory:
    """A site whose oldest block is as old as the window."""
    held = tuple(map(int, outstanding))
    return SiteHistory(CallSite(function, caller), held, allocations=1000, frees=10, oldest_seconds=oldest)


STEADY = site(*(MIB * i for i in range(LOOKS)))


def leak(each: SiteHistory) -> bool:
    assert is_leak(each, WINDOW) is judge([each], window_seconds=WINDOW, resident_growth=MIB, lost=0).leak
    return is_leak(each, WINDOW)


def test_bytes_that_keep_growing_are_a_leak() -> None:
    assert leak(STEADY)


@pytest.mark.parametrize("looks", [SAMPLES, LOOKS, 61, 121])
def test_a_leak_in_four_even_steps_or_more_is_a_leak(looks: int) -> None:
    """Wherever in a step the window begins."""
    for steps in range(4, 12):
        for start in range(20):
            held = [math.floor(i * steps / looks + start / 20) for i in range(looks)]
            assert leak(site(*(MIB * each for each in held))), (steps, start)


def test_two_steps_are_no_trend() -> None:
    for first in range(1, LOOKS):
        for second in range(first, LOOKS):
            assert not leak(site(*(MIB * ((i >= first) + (i >= second)) for i in range(LOOKS))))


def test_a_slow_leak_is_a_leak() -> None:
    """2.7 KiB a second: 64 KiB in a window of half a minute are the least that is named."""
    assert leak(site(*(SMALLEST_LEAK_BYTES * i / (LOOKS - 1) for i in range(LOOKS))))
    assert not leak(site(*((SMALLEST_LEAK_BYTES - LOOKS) * i / (LOOKS - 1) for i in range(LOOKS))))


def test_a_leak_beside_short_lived_blocks_is_a_leak() -> None:
    """What passes through the same call site may be a quarter of what leaks."""
    chance = random.Random(1)
    growth = MIB * (LOOKS - 1)
    found = sum(
        leak(site(*(MIB * i + chance.uniform(0, growth / 4) for i in range(LOOKS - 1)), growth)) for _ in range(1000)
    )
    assert found > 970


def test_a_busy_program_that_frees_what_it_takes_does_not_leak() -> None:
    chance = random.Random(2)
    for _ in range(1000):
        assert not leak(site(*(chance.uniform(0, 100 * MIB) for _ in range(LOOKS))))


def test_a_sawtooth_does_not_leak() -> None:
    """A batch that is gathered and given back, at whatever pace, and wherever the window ends in it."""
    for period in range(2, 17):
        for start in range(period):
            assert not leak(site(*(MIB * ((i + start) % period - start) for i in range(LOOKS)))), (period, start)


def test_a_random_walk_is_seldom_taken_for_a_leak() -> None:
    """Who takes and frees by chance drifts: one sample is near the one before, and 1 walk in 100 passes."""
    chance = random.Random(4)
    walks = ([chance.gauss(0, MIB) for _ in range(LOOKS)] for _ in range(5000))
    taken = sum(is_leak(site(*itertools.accumulate(walk)), WINDOW) for walk in walks)
    assert 0 < taken < 0.015 * 5000


def test_a_cache_that_warms_up_and_stays_does_not_leak() -> None:
    for pace in range(1, LOOKS // 3):
        assert not leak(site(*(64 * MIB * (1 - math.exp(-i / pace)) for i in range(LOOKS)))), pace


def test_one_large_block_does_not_leak() -> None:
    for when in range(1, LOOKS):
        assert not leak(site(*(64 * MIB * (i >= when) for i in range(LOOKS))))


def test_what_shrinks_does_not_leak() -> None:
    assert not leak(site(*(-MIB * i for i in range(LOOKS))))


def test_growth_whose_old_blocks_all_go_is_no_leak() -> None:
    """A queue that gets longer under load: every block is freed in the end, and none of the first third is left."""
    assert leak(replace(STEADY, oldest_seconds=WINDOW * 2 / 3))
    assert not leak(replace(STEADY, oldest_seconds=WINDOW * 0.66))


def test_too_few_samples_show_no_trend() -> None:
    assert not keeps_growing(range(SAMPLES - 1))
    assert keeps_growing(range(SAMPLES))


def test_without_a_trend_there_is_none() -> None:
    """Not one in 20,000 orders of the fewest samples that are looked at."""
    chance, samples = random.Random(3), list(range(SAMPLES))
    for _ in range(20_000):
        chance.shuffle(samples)
        assert not keeps_growing(samples)


# --- what it says ---


def test_a_leak_is_named_with_its_caller_its_rate_and_its_counts() -> None:
    leaking = SiteHistory(CallSite("insert", "refresh"), tuple(MIB * i for i in range(LOOKS)), 1500, 12, WINDOW)
    verdict = judge([leaking], window_seconds=WINDOW, resident_growth=25 * MIB, lost=0)
    assert (verdict.leak, verdict.function, verdict.caller) == (True, "insert", "refresh")
    for said in ("WARNING", "insert, called from refresh,", "48.0 MiB a minute", "1,500 allocations", "12 frees"):
        assert said in verdict.summary
    assert "24.0 MiB outstanding, 96% of the growth in resident memory" in verdict.summary
    assert "\n" not in verdict.summary


def test_the_largest_of_several_leaks_is_named_and_the_others_are_mentioned() -> None:
    half = tuple(each // 2 for each in STEADY.outstanding)
    small = replace(STEADY, site=CallSite("small", "main"), outstanding=half)
    verdict = judge([small, STEADY], window_seconds=WINDOW, resident_growth=MIB, lost=0)
    assert verdict.function == "grow"
    assert "1 further call site" in verdict.summary


def test_a_share_of_no_growth_is_not_said() -> None:
    """Resident memory can shrink while a leak grows: a cache elsewhere was dropped, or the machine swaps."""
    verdict = judge([STEADY], window_seconds=WINDOW, resident_growth=-MIB, lost=0)
    assert verdict.leak
    assert "%" not in verdict.summary


BUSY = site(*(MIB * (i % 2) for i in range(LOOKS)), function="work")


def test_no_leak_is_explained_by_what_was_seen() -> None:
    verdict = judge([BUSY], window_seconds=WINDOW, resident_growth=3 * KIB, lost=0)
    assert (verdict.leak, verdict.function, verdict.caller) == (False, "", "")
    for said in (
        "No leak found",
        "1,000 allocations and 10 frees",
        "30s",
        "every event was counted",
        "work",
        "3.00 KiB",
    ):
        assert said in verdict.summary


def test_events_that_were_not_counted_are_said_beside_no_leak() -> None:
    verdict = judge([BUSY], window_seconds=WINDOW, resident_growth=0, lost=1234)
    assert "1,234 events were not counted" in verdict.summary
    assert "every event was counted" not in verdict.summary


def test_a_process_that_did_nothing_is_no_proof() -> None:
    verdict = judge([], window_seconds=WINDOW, resident_growth=0, lost=0)
    assert not verdict.leak
    assert "not one allocation was seen" in verdict.summary


def test_a_window_with_too_few_samples_says_so_instead_of_giving_an_all_clear() -> None:
    verdict = judge([site(0, MIB)], window_seconds=0.5, resident_growth=0, lost=0)
    assert not verdict.leak
    assert "too short" in verdict.summary
    assert "every event was counted" not in verdict.summary
