"""How a verdict says where memory went."""

from __future__ import annotations

import pytest

from diagnosis.report.account import Account, Part
from diagnosis.report.site import CallSite
from diagnosis.report.summary import summarize
from diagnosis.report.verdict import Evidence, SiteHistory, find

MIB = 1 << 20
READINGS = 25
FLAT = (0,) * READINGS


def no_leak(
    growth: int,
    *,
    kinds: tuple[Part, ...] = (),
    anonymous: tuple[Part, ...] = (),
    outstanding: tuple[int, ...] = FLAT,
) -> str:
    """The summary of a window in which no call site kept growing."""
    site = SiteHistory(CallSite("serve", "main"), outstanding, 100, 100, 0.0)
    evidence = Evidence(30.0, [site], live=FLAT, memory=(*FLAT[1:], growth))
    account = Account(kinds, anonymous, huge_bytes=0, error_bytes=0, resident_bytes=64 * MIB)
    return summarize(find(evidence), evidence, account).summary


FILES = Part("file", 8 * MIB, "mapped files")
HELD = Part("retained", 8 * MIB, "freed memory that the allocator holds")
STACKS = Part("stacks", -3 * MIB, "thread stacks")


@pytest.mark.parametrize(
    ("growth", "said"),
    [
        (12 * MIB, "memory grew by 12.0 MiB"),
        (-3 * MIB, "memory shrank by 3.00 MiB"),
        (0, "memory did not change"),
    ],
)
def test_a_change_is_said_with_its_direction(growth: int, said: str) -> None:
    assert f"; {said}. " in no_leak(growth)


def test_a_part_within_the_growth_is_a_part_of_it() -> None:
    assert "(8.00 MiB of it is freed memory that the allocator holds)" in no_leak(12 * MIB, anonymous=(HELD,))


def test_what_is_no_part_of_the_growth_is_said_beside_it() -> None:
    """Pages of files are the kernel's to drop, and what one part gained another may have lost."""
    assert "memory did not change (mapped files grew by 8.00 MiB)" in no_leak(0, kinds=(FILES,))
    assert "memory grew by 12.0 MiB (mapped files grew by 8.00 MiB)" in no_leak(12 * MIB, kinds=(FILES,))
    both = "(freed memory that the allocator holds grew by 8.00 MiB; thread stacks shrank by 3.00 MiB)"
    assert f"memory grew by 5.00 MiB {both}" in no_leak(5 * MIB, anonymous=(HELD, STACKS))


def test_a_part_too_small_for_a_word_is_left_to_the_table() -> None:
    assert "memory grew by 12.0 MiB. " in no_leak(12 * MIB, anonymous=(Part("stacks", MIB - 1, "thread stacks"),))


def test_who_holds_the_most_and_no_longer_grew_is_said() -> None:
    """As threads that took their memory once, or a cache that is full: whether more comes, a later trace says."""
    filled = (0, *(MIB * min(each, 8) for each in range(1, READINGS)))
    said = "no call site kept growing (the most, 8.00 MiB, is held by serve, which no longer grew at the end)"
    assert said in no_leak(8 * MIB, outstanding=filled)


def test_blocks_that_did_not_raise_resident_memory_are_said_to_be_such() -> None:
    untouched = Part(
        "untouched", -2 * MIB, "of the blocks above: not touched yet, or put into memory that was resident"
    )
    said = "(2.00 MiB of the blocks taken are not touched yet, or lie in memory that was resident before)"
    assert said in no_leak(3 * MIB, anonymous=(untouched,))
