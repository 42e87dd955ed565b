from __future__ import annotations

import pytest

from diagnosis.report.older import Freed, share_out, shares_by_size
from diagnosis.trace.counts import Counts

SESSION, RECORD = 1, 2


def test_old_blocks_belong_to_the_stack_that_takes_their_size() -> None:
    grown = {SESSION: Counts(1000, 8_000_000, 0, 0), RECORD: Counts(500, 500_000, 0, 0)}
    shares = share_out(grown, {0: Freed(900, 900 * 8008)})
    assert shares == {SESSION: {0: 1.0}}


def test_stacks_of_one_size_share_old_blocks_by_what_they_took() -> None:
    grown = {1: Counts(300, 30_000, 0, 0), 2: Counts(100, 10_000, 0, 0)}
    shares = share_out(grown, {7: Freed(200, 200 * 104)})
    assert {stack: share[7] for stack, share in shares.items()} == {1: pytest.approx(0.75), 2: pytest.approx(0.25)}


def test_no_stack_is_given_more_old_blocks_than_it_took_new_ones() -> None:
    shares = share_out({1: Counts(10, 1000, 0, 0)}, {7: Freed(100, 10_400)})
    assert shares[1][7] * 10_400 == pytest.approx(1000)


def test_a_stack_that_kept_nothing_takes_no_part() -> None:
    assert share_out({1: Counts(10, 1000, 10, 1000)}, {7: Freed(100, 10_400)}) == {}
    assert share_out({1: Counts(10, 1000, 0, 0)}, {7: Freed()}) == {}
    assert share_out({1: Counts(3, 0, 0, 0)}, {1: Freed(5, 120)}) == {}  # malloc(0), and old blocks of 24 bytes
    assert share_out({1: Counts(3, 0, 0, 0)}, {1: Freed(5, 0)}) == {}


def test_a_stack_that_frees_nothing_does_not_pay_for_churn_of_its_size() -> None:
    """Tables of 20,000 strings that are replaced at random, and a log that keeps each of its own."""
    grown = {1: Counts(130_880, 130_880 * 256, 111_069, 111_069 * 256), 2: Counts(1851, 1851 * 256, 0, 0)}
    assert share_out(grown, {7: Freed(19_811, 19_811 * 264)}) == {1: {7: 1.0}}


def test_what_churn_cannot_have_held_is_of_the_stacks_that_free_nothing() -> None:
    """Beside the churn, sessions that outlive the window: as many old ones end as new ones begin."""
    grown = {1: Counts(5000, 500_000, 4000, 400_000), 2: Counts(3000, 300_000, 0, 0)}
    shares = share_out(grown, {7: Freed(4000, 400_000)})
    assert shares == {1: {7: pytest.approx(0.25)}, 2: {7: pytest.approx(0.75)}}


# Size class 5: blocks of 1 KiB of a busy stack of all sizes, and of one that keeps each of its blocks.
KEEPER, CHURN = 1, 2
GROWN = {KEEPER: Counts(148, 148 * 1024, 0, 0), CHURN: Counts(1_000_000, 2_000_000_000, 999_540, 1_999_080_000)}


def test_what_was_in_flight_when_the_window_began_is_not_of_a_stack_that_keeps_its_blocks() -> None:
    in_flight = {5: Freed(44, 44 * 1032)}
    assert shares_by_size(GROWN, in_flight, in_flight) == {}


def test_old_blocks_that_go_on_being_freed_are_of_a_stack_that_keeps_its_blocks() -> None:
    """A service in equilibrium, whose sessions outlive the window: old ones end all the time."""
    assert shares_by_size(GROWN, {5: Freed(14, 14 * 1032)}, {5: Freed(140, 140 * 1032)}) == {KEEPER: {5: 1.0}}


def test_what_was_in_flight_is_of_a_stack_of_its_size_that_frees() -> None:
    grown = GROWN | {3: Counts(5000, 5000 * 1024, 4900, 4900 * 1024)}
    shares = shares_by_size(grown, {5: Freed(95, 95 * 1032)}, {5: Freed(95, 95 * 1032)})
    assert shares == {3: {5: pytest.approx(1.0)}}
