from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from diagnosis.report.history import Takes
from diagnosis.report.unseen import Unseen
from diagnosis.report.verdict import SMALLEST_LEAK_BYTES, Answer, Doubt, find
from tests.diagnosis.windows import FLAT, GIB, KIB, MIB, READINGS, STEADY, WINDOW, answer, doubt, site, window

# --- a leak ---


def test_bytes_that_keep_growing_are_a_leak() -> None:
    assert answer(STEADY) is Answer.LEAK


def test_a_slow_leak_is_a_leak_from_the_smallest_growth_on() -> None:
    """2.2 KiB a second: 64 KiB in a window of half a minute are the least that is named."""
    least = [SMALLEST_LEAK_BYTES * i / (READINGS - 1) for i in range(READINGS)]
    assert answer(site(*least)) is Answer.LEAK
    assert answer(site(*(each - 1 for each in least))) is Answer.NO_LEAK
    assert find(window(site(*least)), smallest=SMALLEST_LEAK_BYTES + 1).answer is Answer.NO_LEAK


def test_the_largest_leak_comes_first_and_before_any_doubtful_growth() -> None:
    small = site(*(each / 2 for each in STEADY.outstanding), function="small")
    burst = site(*(0 if i < READINGS - 3 else 99 * MIB for i in range(READINGS)), function="burst")
    found = find(window(burst, small, STEADY))
    assert [each.site.site.function for each in found.judged] == ["grow", "small", "burst"]


def test_a_leak_in_memory_that_was_resident_before_is_a_leak() -> None:
    """Freed memory that the allocator held is used again: the live heap grows, resident memory does not."""
    assert answer(STEADY, memory=FLAT) is Answer.LEAK


def test_a_leak_beside_a_cache_that_is_dropped_is_a_leak() -> None:
    """Of other blocks, from before the window, more were freed than the leak took."""
    falling = tuple(-3 * each for each in STEADY.outstanding)
    assert answer(STEADY, live=falling, memory=STEADY.outstanding) is Answer.LEAK


# --- no leak ---


def test_what_others_give_back_is_no_growth() -> None:
    """Frees of older blocks take what the site takes: neither the live heap grows nor the process."""
    assert answer(STEADY, live=FLAT, memory=FLAT) is Answer.NO_LEAK


def test_a_live_heap_that_cannot_be_known_is_not_believed() -> None:
    """An allocator does not tell the sizes of older blocks: their frees are missing from the live heap."""
    assert answer(STEADY, memory=FLAT, live_known=False) is Answer.NO_LEAK
    assert answer(STEADY, live_known=False) is Answer.LEAK


def test_an_equilibrium_of_blocks_that_outlive_the_window_is_no_leak() -> None:
    """8,000 taken, 7,900 older ones of their size freed: 100 more are the ups and downs of chance."""
    ups = [0, *(i * MIB / 24 + (-1) ** i * MIB / 3 for i in range(1, READINGS - 1)), MIB]
    assert answer(site(*ups, allocations=8000, frees=0, older_frees=7900)) is Answer.NO_LEAK


def test_blocks_from_before_the_window_that_grow_are_no_equilibrium() -> None:
    """As many old blocks as new ones, and each new one in the place of an old one that was smaller."""
    assert answer(replace(STEADY, allocations=400, frees=0, replaced=400)) is Answer.LEAK


def test_file_mappings_are_address_space() -> None:
    assert answer(replace(STEADY, takes=Takes.FILES), memory=FLAT) is Answer.NO_LEAK


def test_a_process_that_did_nothing_has_no_leak() -> None:
    assert answer() is Answer.NO_LEAK


# --- growing ---


def test_two_bursts_are_growth_of_which_nobody_can_say_that_it_goes_on() -> None:
    bursts = site(*(100 * MIB * ((i >= 4) + (i >= 16)) for i in range(READINGS)))
    assert doubt(bursts) is Doubt.STEPS


def test_growth_that_begins_within_the_window_is_not_yet_a_leak() -> None:
    assert doubt(site(*(MIB * max(0, i - 12) for i in range(READINGS)))) is Doubt.LATE


def test_growth_that_slows_down_is_not_called_a_leak() -> None:
    assert doubt(site(*(64 * MIB * (1 - 0.88**i) for i in range(READINGS)))) is Doubt.SLOWING


def test_growth_whose_old_blocks_all_go_is_no_leak_yet() -> None:
    """A queue that gets longer under load: every block is freed in the end, and none of the first third is left."""
    assert answer(replace(STEADY, oldest_seconds=WINDOW * 2 / 3)) is Answer.LEAK
    assert doubt(replace(STEADY, oldest_seconds=WINDOW * 0.66)) is Doubt.YOUNG


def test_a_site_that_frees_all_but_its_newest_blocks_is_passing() -> None:
    passing = replace(STEADY, allocations=1000, frees=800, oldest_seconds=WINDOW * 0.3, kept_bytes=0)
    assert answer(passing) is Answer.NO_LEAK
    assert answer(replace(passing, frees=790)) is Answer.GROWING


def test_what_begins_late_at_a_site_that_frees_half_of_what_it_takes_is_growth() -> None:
    late = site(*(MIB * max(0, i - 17) for i in range(READINGS)), frees=550, oldest_seconds=WINDOW * 0.3, kept_bytes=0)
    burst = site(*(MIB * 8 * (i >= 20) for i in range(READINGS)), frees=550, oldest_seconds=WINDOW * 0.2, kept_bytes=0)
    assert doubt(late) is Doubt.LATE
    assert doubt(burst) is Doubt.STEPS


def test_a_passing_site_may_keep_less_than_a_leak_worth_a_name() -> None:
    """As threads do that keep a block each: what such a site holds at the end of the window is on its way."""
    bound = SMALLEST_LEAK_BYTES * 2 // 3
    passing = replace(STEADY, allocations=200_000, frees=195_000, kept_bytes=bound)
    assert answer(passing) is Answer.NO_LEAK
    assert answer(replace(passing, kept_bytes=bound + 1)) is Answer.LEAK


def test_a_leak_beside_a_buffer_that_is_larger_is_growth_where_the_window_ends_in_the_buffer() -> None:
    """4 MiB are kept, and a buffer of 16 MiB comes and goes. What only passes leaves next to nothing that is old."""
    held = [MIB * i / 6 + 16 * MIB * (i % 3 == 0 < i) for i in range(READINGS)]
    leak = site(*held, frees=850, first_bytes=MIB * 4 // 3, kept_bytes=MIB * 8 // 3)
    assert doubt(leak) is Doubt.CHANCE
    assert answer(replace(leak, first_bytes=MIB * 11 // 10)) is Answer.GROWING
    assert answer(replace(leak, first_bytes=MIB * 9 // 10)) is Answer.NO_LEAK
    assert doubt(site(*held[:-1], 4 * MIB, frees=850)) is Doubt.CHANCE  # it ends outside the buffer


def test_what_every_new_worker_takes_at_first_is_no_leak() -> None:
    """Eight workers of 3 MiB, one after the other: with each the site has more, as those that ended keep theirs."""
    restarts = site(*(3 * MIB * (i // 3) for i in range(READINGS)))
    assert answer(restarts) is Answer.LEAK
    assert answer(replace(restarts, fresh_bytes=(24 * MIB, 0, 0))) is Answer.NO_LEAK
    assert answer(replace(restarts, fresh_bytes=(22 * MIB, MIB, MIB))) is Answer.NO_LEAK  # in flight when they ended
    assert doubt(replace(restarts, fresh_bytes=(18 * MIB, 3 * MIB, 3 * MIB))) is Doubt.FRESH
    assert answer(replace(restarts, fresh_bytes=(8 * MIB, 8 * MIB, 8 * MIB))) is Answer.LEAK
    # A list that grows by realloc is as old as its first element.
    assert doubt(replace(restarts, fresh_bytes=(24 * MIB, 0, 0), frees=400)) is Doubt.FRESH


def test_a_leak_of_workers_that_last_is_one_beside_others_that_warm_up() -> None:
    assert answer(replace(STEADY, fresh_bytes=(11 * MIB, 0, 0))) is Answer.LEAK
    assert doubt(replace(STEADY, fresh_bytes=(12 * MIB, 0, 0))) is Doubt.FRESH


def test_too_few_readings_show_no_trend() -> None:
    assert answer(site(*(MIB * i for i in range(12)))) is Answer.LEAK
    assert doubt(site(*(MIB * i for i in range(11)))) is Doubt.FEW_READINGS


def test_lost_events_make_a_leak_doubtful_where_they_could_be_its_frees() -> None:
    keeps = replace(STEADY, allocations=1000, frees=0)
    assert answer(keeps, lost=100) is Answer.LEAK
    assert doubt(keeps, lost=101) is Doubt.LOST
    assert doubt(replace(keeps, allocations=1_000_000, frees=999_000), lost=101) is Doubt.LOST
    assert answer(replace(keeps, allocations=5), lost=1) is Answer.LEAK
    assert answer(keeps, lost=1101, harmless=1001) is Answer.LEAK
    assert doubt(keeps, lost=1101, harmless=1000) is Doubt.LOST
    assert answer(keeps, lost=1000, discarded=1000) is Answer.LEAK
    assert doubt(keeps, lost=1000, discarded=1000, memory=FLAT) is Doubt.LOST  # it went with its heap
    assert doubt(replace(keeps, frees=101), lost=1000, discarded=1000) is Doubt.LOST


def test_lost_events_leave_no_all_clear_where_memory_grew() -> None:
    busy = site(*(MIB * (i % 2) for i in range(READINGS)))
    grown = tuple(MIB * i for i in range(READINGS))
    assert answer(busy, lost=11, memory=grown) is Answer.GROWING
    assert answer(busy, lost=10, memory=grown) is Answer.NO_LEAK
    assert answer(busy, lost=11, memory=FLAT) is Answer.NO_LEAK


def test_address_space_that_is_not_resident_is_growth_and_no_leak() -> None:
    assert doubt(replace(STEADY, takes=Takes.MAPPINGS), memory=FLAT) is Doubt.NOT_RESIDENT
    assert answer(replace(STEADY, takes=Takes.MAPPINGS)) is Answer.LEAK


def test_addresses_that_nobody_touches_are_no_growth_that_is_named_before_growth() -> None:
    """A collector or a sanitizer maps a gigabyte at once, and touches none of it."""
    mapped = site(*((0, GIB)[i > 5] for i in range(READINGS)), takes=Takes.MAPPINGS, function="reserve")
    shape = [MIB * i for i in range(READINGS // 2)]
    late = site(*(0 for _ in range(READINGS - len(shape))), *shape, function="fill")
    assert doubt(mapped, memory=FLAT) is Doubt.NOT_RESIDENT
    found = find(window(mapped, late, memory=late.outstanding, live=late.outstanding))
    assert [each.site.site.function for each in found.judged] == ["fill", "reserve"]


def test_sites_that_are_too_small_for_a_name_are_named_together() -> None:
    """A parser's, or code put in line: not one free, steadily, and much in all."""
    small = [KIB * 60 * i / (READINGS - 1) for i in range(READINGS)]
    many = [site(*small, function=f"parse_{i}") for i in range(20)]
    assert doubt(*many) is Doubt.SMALL
    assert answer(*many[:17]) is Answer.NO_LEAK  # less than 1 MiB
    assert answer(*many, memory=FLAT) is Answer.NO_LEAK
    ended = [site(*(min(3 * each, 60 * KIB) for each in small), function=f"parse_{i}") for i in range(20)]
    assert answer(*ended) is Answer.NO_LEAK


@pytest.mark.parametrize(("resident", "expected"), [(8 * MIB, Answer.LEAK), (MIB, Answer.GROWING)])
def test_mappings_that_are_used_in_part_leak_what_is_in_memory_of_them(resident: int, expected: Answer) -> None:
    """Pools of which most is never touched, or was given back by madvise: memory grows by a share of the addresses."""
    pools = replace(STEADY, takes=Takes.MAPPINGS, resident_bytes=resident)
    memory = tuple(MIB * each // 4 for each in range(READINGS))
    assert answer(pools, memory=memory, live=FLAT) is expected


@pytest.mark.parametrize(
    ("size", "late", "expected"), [(MIB, 99, Answer.GROWING), (MIB, 100, Answer.NO_LEAK), (MIB - 1, 0, Answer.NO_LEAK)]
)
def test_what_came_in_the_first_half_is_growing_unless_its_site_went_on_at_its_level(
    size: int, late: int, expected: Answer
) -> None:
    """Of 1,000 calls: a burst can come again. A full cache takes as many blocks as before, and keeps no more."""
    once = site(0, *(size for _ in range(READINGS - 1)), late_allocations=late)
    assert answer(once) is expected
    if expected is Answer.GROWING:
        assert doubt(once) is Doubt.ONCE


UNSEEN = Unseen(24 * MIB, "unseen", "memory that no call of an allocator explains")


@pytest.mark.parametrize(
    ("unseen", "memory", "expected"),
    [
        (UNSEEN, STEADY.outstanding, Answer.GROWING),
        (replace(UNSEEN, bytes=MIB - 1), STEADY.outstanding, Answer.NO_LEAK),  # the kernel counts in batches
        (replace(UNSEEN, bytes=MIB), [40 * each for each in STEADY.outstanding], Answer.NO_LEAK),  # of 960 MiB
        (UNSEEN, (0, *(24 * MIB,) * (READINGS - 1)), Answer.NO_LEAK),  # it came at once and stayed so
        (replace(UNSEEN, resident=False), FLAT, Answer.GROWING),  # a memfd
    ],
)
def test_growth_that_no_allocator_explains_is_growing(unseen: Unseen, memory: Any, expected: Answer) -> None:  # noqa: ANN401
    assert answer(unseen=(unseen,), memory=memory, live=FLAT) is expected


def test_a_part_that_goes_on_is_growing_also_where_the_process_had_grown_by_more_at_its_start() -> None:
    warmed_up = tuple(400 * MIB + each for each in STEADY.outstanding[1:])
    shared = Unseen(24 * MIB, "shared", "shared memory", readings=STEADY.outstanding)
    assert answer(unseen=(shared,), memory=(0, *warmed_up), live=FLAT) is Answer.GROWING
    ended = replace(shared, readings=(0, *(24 * MIB,) * (READINGS - 1)))
    assert answer(unseen=(ended,), memory=(0, *warmed_up), live=FLAT) is Answer.NO_LEAK


def test_growth_beside_a_leak_is_kept() -> None:
    found = find(window(STEADY, unseen=(UNSEEN,)))
    assert found.answer is Answer.LEAK
    assert found.unseen == (UNSEEN,)
