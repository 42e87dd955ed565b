"""How a verdict says where memory went."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diagnosis.base.units import format_size
from diagnosis.report.account import Account, Part
from diagnosis.report.history import Evidence, SiteHistory, Takes
from diagnosis.report.site import CallSite
from diagnosis.report.summary import summarize
from diagnosis.report.unseen import Touched, Unseen
from diagnosis.report.verdict import Answer, find

KIB = 1 << 10
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


def test_growth_of_which_it_cannot_be_said_is_named_where_it_holds_more_than_the_leak() -> None:
    leak = SiteHistory(
        CallSite("decode", "main"),
        tuple(MIB * each // 4 for each in range(READINGS)),
        1000,
        0,
        30.0,
        kept_bytes=4 * MIB,
    )
    bursts = SiteHistory(
        CallSite("report", "main"), tuple(25 * MIB * (each // 10) for each in range(READINGS)), 100, 0, 30.0
    )
    total = tuple(map(sum, zip(leak.outstanding, bursts.outstanding, strict=True)))
    evidence = Evidence(30.0, [leak, bursts], live=total, memory=total)
    verdict = summarize(find(evidence), evidence)
    assert (verdict.answer, verdict.function) == (Answer.LEAK, "decode")
    assert (
        "report, called from main, holds more, 50.0 MiB, 89% of the growth in memory; it cannot be said that it goes"
        " on: one rise brought about half of it or more."
    ) in verdict.summary


def test_more_than_memory_grew_by_has_a_word_why() -> None:
    grown = tuple(each // 2 for each in LEAK.outstanding)
    evidence = Evidence(30.0, [LEAK], live=LEAK.outstanding, memory=grown)
    without = summarize(find(evidence), evidence).summary
    assert f", more than the {format_size(grown[-1])} by which memory had grown when it was last read." in without
    evidence = replace(evidence, untouched_bytes=LEAK.growth - grown[-1])
    said = f"by which memory grew: {format_size(LEAK.growth - grown[-1])} of what was taken is not touched yet"
    assert said in summarize(find(evidence), evidence).summary


SEGMENTS = Unseen(146 * MIB, "shared", "shared memory")
MEMFDS = Unseen(140 * MIB, "memfd", "open memfds that are mapped nowhere", resident=False)
POSTS, BUFFERS = CallSite("post", "main"), CallSite("buffer", "main")


def unexplained(*touched: Touched) -> str:
    """The summary where shared memory and memfds grew, and the same code may have touched both."""
    memory = tuple(286 * MIB * each // (READINGS - 1) for each in range(READINGS))
    parts = [replace(part, touched=touched) for part in (SEGMENTS, MEMFDS)]
    evidence = Evidence(15.0, [], live=FLAT, memory=memory, unseen=parts)
    return summarize(find(evidence), evidence).summary


def test_two_parts_that_the_same_code_touched_are_named_together() -> None:
    """Page faults do not say which part they were of: nobody is given more than was touched."""
    assert unexplained(Touched(BUFFERS, 145 * MIB), Touched(POSTS, 141 * MIB)).startswith(
        "GROWING: shared memory (146 MiB) and open memfds that are mapped nowhere (140 MiB) grew by 286 MiB, first"
        " touched by buffer, called from main (about 145 MiB) and post, called from main (about 141 MiB)"
    )


def test_code_that_touched_no_more_than_one_part_is_named_for_that_part() -> None:
    assert unexplained(Touched(POSTS, 150 * MIB)).startswith(
        "GROWING: shared memory grew by 146 MiB, first touched by post, called from main (about 150 MiB)"
    )


def test_code_that_touched_more_than_memory_grew_by_is_said_to_have_given_it_back() -> None:
    assert "post, called from main (about 600 MiB, most of it given back)" in unexplained(Touched(POSTS, 600 * MIB))


def test_code_that_touched_no_more_than_memory_grew_by_has_given_nothing_back() -> None:
    """A runtime's own heap: its mappings were taken, and a small part of what was touched is unexplained."""
    memory = tuple(2 * MIB * each for each in range(READINGS))
    unseen = Unseen(3 * MIB, "unseen", "memory", touched=(Touched(POSTS, 46 * MIB),))
    evidence = Evidence(15.0, [], live=FLAT, memory=memory, unseen=[unseen])
    assert "post, called from main (about 46.0 MiB)" in summarize(find(evidence), evidence).summary


def test_memfds_that_nobody_maps_are_named_by_what_sees_writes() -> None:
    evidence = Evidence(15.0, [], live=FLAT, memory=FLAT, unseen=[MEMFDS])
    assert "/proc/PID/fd" in summarize(find(evidence), evidence).decides


@pytest.mark.parametrize(("freed", "said"), [(127 * MIB, True), (2 * MIB, False)])
def test_what_the_allocator_holds_is_said_where_it_is_the_larger_part(freed: int, said: bool) -> None:
    """Threads that each free what they took: their arenas keep it, and a few blocks are left."""
    held = (Part("live", 3 * MIB, "blocks"), Part("retained", freed, "freed memory that the allocator holds"))
    account = Account((Part("anonymous", freed + 3 * MIB, "anonymous memory"),), held, 0, 0, 0)
    sentence = f" {format_size(freed)} of the growth in memory is freed memory that the allocator holds."
    for site in (LEAK, replace(LEAK, oldest_seconds=0.0)):
        evidence = Evidence(30.0, [site], live=site.outstanding, memory=site.outstanding)
        assert (sentence in summarize(find(evidence), evidence, account).summary) is said


LEAK = SiteHistory(
    CallSite("decode", "main"), tuple(MIB * each // 8 for each in range(READINGS)), 1000, 0, 30.0, kept_bytes=2 * MIB
)


def test_a_burst_beside_a_small_leak_is_not_said_to_have_grown_in_every_part() -> None:
    burst = replace(SEGMENTS, kind="unseen", touched=(Touched(POSTS, 140 * MIB),))
    for at_once in (True, False):
        beside = [146 * MIB * (each > READINGS // 2 if at_once else each / READINGS) for each in range(READINGS)]
        memory = tuple(round(a + b) for a, b in zip(LEAK.outstanding, beside, strict=True))
        evidence = Evidence(30.0, [LEAK], live=LEAK.outstanding, memory=memory, unseen=[burst])
        verdict = summarize(find(evidence), evidence)
        assert verdict.answer is Answer.LEAK
        assert verdict.function == ("decode" if at_once else "post")
        assert ("Both grew in every part" in verdict.summary) is not at_once


def test_further_sites_are_named() -> None:
    others = [replace(LEAK, site=CallSite(f"leak_{i}", "main"), outstanding=LEAK.outstanding) for i in range(5)]
    total = tuple(6 * each for each in LEAK.outstanding)
    evidence = Evidence(30.0, [LEAK, *others], live=total, memory=total)
    assert (
        " leak_0, called from main (3.00 MiB, a leak too); leak_1, called from main (3.00 MiB, a leak too); leak_2,"
        " called from main (3.00 MiB, a leak too) and 2 further call sites grow as well."
    ) in summarize(find(evidence), evidence).summary


def test_sites_too_small_for_a_name_are_told_with_the_option_that_names_them() -> None:
    small = replace(LEAK, outstanding=tuple(KIB * 60 * each // (READINGS - 1) for each in range(READINGS)))
    sites = [replace(small, site=CallSite(f"parse_{i}", "main")) for i in range(20)]
    evidence = Evidence(30.0, sites, live=LEAK.outstanding, memory=LEAK.outstanding)
    verdict = summarize(find(evidence), evidence)
    assert verdict.summary.startswith("GROWING: 20 call sites grew steadily, each by too little to be named")
    assert "together by 1.17 MiB" in verdict.summary
    assert verdict.decides == "--smallest-growth 30.0KiB names the largest of them"


def test_one_of_a_thing_is_said_as_one() -> None:
    once = SiteHistory(CallSite("load", "main"), (*FLAT[1:], 8 * MIB), 1, 0, 30.0)
    evidence = Evidence(30.0, [once], live=once.outstanding, memory=once.outstanding, lost=1)
    assert ": 1 allocation against 0 frees in 30s. " in summarize(find(evidence), evidence).summary


def test_memory_in_swap_is_not_counted_twice() -> None:
    swapped = Part("swapped", 20 * MIB, "memory in swap")
    assert "swap" not in no_leak(12 * MIB, kinds=(swapped,), anonymous=(HELD,))


def test_growth_that_others_gave_back_is_no_want_of_growth() -> None:
    steady = tuple(MIB * each for each in range(READINGS))
    assert "; serve, called from main, took 24.0 MiB and kept it, while others gave back as much; " in no_leak(
        0, outstanding=steady
    )


def test_frees_without_an_allocation_are_told_with_what_was_lost() -> None:
    evidence = Evidence(30.0, [], live=FLAT, memory=FLAT, older_frees=3, lost=2)
    assert summarize(find(evidence), evidence).summary.startswith(
        "No leak found: not one allocation, and 3 frees of older blocks, was seen in 30s: trace for longer, or while"
        " the process works; 2 events were not counted; "
    )


def test_who_uses_what_a_runtime_maps_for_its_own_heap_is_named() -> None:
    """Go's runtime maps on a stack of its own, on which none of the program's functions are."""
    user = Touched(CallSite("main.remember", "main.main"), 3 * MIB)
    mapped = replace(LEAK, site=CallSite("x_cgo_mmap", "runtime.callCgoMmap.abi0"), takes=Takes.MAPPINGS)
    evidence = Evidence(30.0, [mapped], live=mapped.outstanding, memory=mapped.outstanding)
    touched = [Touched(CallSite("runtime.memclr", ""), 9 * MIB), user]
    verdict = summarize(find(evidence), replace(evidence, touched=touched))
    assert (verdict.function, verdict.caller) == user.site
    assert " It was first touched by main.remember, called from main.main (about 3.00 MiB)." in verdict.summary
    assert summarize(find(evidence), evidence).function == "x_cgo_mmap"
    of_a_pool = replace(mapped, site=CallSite("pool_map", "main"))
    pool = Evidence(30.0, [of_a_pool], live=mapped.outstanding, memory=mapped.outstanding, touched=touched)
    assert summarize(find(pool), pool).function == "pool_map"
