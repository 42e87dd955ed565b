"""The account of several processes: what each did, what they share, and what came and went with some of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from heap_trace import Lost, MappingKind

from diagnosis.report.counted import Counted
from diagnosis.report.group_account import account_of_group
from diagnosis.report.site import CallSite
from diagnosis.target.common_memory import Share, add_up, apart
from diagnosis.target.memory import Memory, Range, Use
from diagnosis.target.process import Resident
from diagnosis.trace.counts import Counts
from diagnosis.trace.footprints import NOTHING, Footprints, Gone, Moment, Stay
from diagnosis.trace.mapped import MappedRange
from diagnosis.trace.snapshot import Snapshot
from diagnosis.trace.window import Sample, Window

if TYPE_CHECKING:
    from diagnosis.report.account import Account

MIB = 1 << 20
BLOCKS, POOLS = 1, 2
NOBODY = Gone(0, 0, (NOTHING, NOTHING))


def moment(pid: int, *, heap: int = 0, common: int = 0, live: int = 0, pool: int = 0, stacks: int = 0) -> Moment:
    """A process, in MiB: a heap of its own, pages that it shares with one other, what its trace counted, a mapping."""
    ranges = (
        Range(apart(1, pid), apart(1 << 30, pid), (heap + common) * MIB, Use.HEAP),
        Range(apart(2 << 30, pid), apart(3 << 30, pid), pool * MIB, Use.OTHER),
        Range(apart(4 << 30, pid), apart(5 << 30, pid), stacks * MIB, Use.STACKS),
    )
    uses = Counter({each.use: each.bytes for each in ranges})
    own = (heap + pool + stacks) * MIB
    memory = Memory(anonymous=own + common * MIB, uses=uses, ranges=ranges)
    share = Share(memory, own + common * MIB // 2, 0, 0, 0, own, {}, (), {})
    counts = {BLOCKS: Counts(live, live * MIB), POOLS: Counts(pool, pool * MIB)}
    return Moment(share, Snapshot(0.0, {stack: each for stack, each in counts.items() if each.allocations}))


def account(*stays: Stay, gone: Gone = NOBODY, started_with: tuple[Moment, ...] = ()) -> Account:
    start = add_up([*(each.start.share for each in stays if not each.fresh), *(each.share for each in started_with)])
    footprints = Footprints(start, add_up([each.end.share for each in stays]), stays, gone)
    mapped = tuple(
        MappedRange(apart(2 << 30, each.pid), apart(3 << 30, each.pid), POOLS, MappingKind.MAPPED, 0) for each in stays
    )
    samples = (Sample(Snapshot(0.0, {}), Resident(0, 0)), Sample(Snapshot(8.0, {}), Resident(0, 0)))
    window = Window(samples, {}, dict.fromkeys(Lost, 0), ranges=mapped)
    found = account_of_group(footprints, Counted(window, {}, lambda stack: CallSite(str(stack), ""), lost=0))
    kinds = {part.name: part.bytes for part in found.kinds}
    assert sum(part.bytes for part in found.anonymous) == kinds["anonymous"] + kinds["swapped"], "they add up"
    assert found.growth == footprints.end.private - footprints.start.private
    return found


def parts(found: Account) -> dict[str, int]:
    """In MiB, without the headers of blocks."""
    return {each.name: round(each.bytes / MIB) for each in found.anonymous if abs(each.bytes) > MIB / 2}


def stay(pid: int, start: Moment, end: Moment, *, fresh: bool = False) -> Stay:
    return Stay(pid, start, end, fresh)


def test_each_process_has_an_account_and_they_are_summed() -> None:
    found = account(
        stay(7, moment(7, heap=10), moment(7, heap=30, live=20)), stay(8, moment(8), moment(8, pool=5, stacks=3))
    )
    assert parts(found) == {"live": 20, "mapped": 5, "stacks": 3}


def test_blocks_that_one_has_not_touched_explain_nothing_of_another() -> None:
    found = account(stay(7, moment(7), moment(7, live=50)), stay(8, moment(8), moment(8, heap=40)))
    assert parts(found) == {"live": 50, "untouched": -50, "unseen": 40}
    assert [part.name for part in found.unseen] == ["unseen"]


def test_what_is_next_to_nothing_in_each_is_set_against_each_other() -> None:
    """A mebibyte at most of each is the time between two readings."""
    late = moment(7, heap=4)
    late = replace(late, counted=Snapshot(0.0, {BLOCKS: Counts(9, 4 * MIB + MIB // 2)}))
    early = replace(late, counted=Snapshot(0.0, {BLOCKS: Counts(9, 4 * MIB - MIB // 2)}))
    found = account(stay(7, moment(7), late), stay(8, moment(8), replace(early, share=moment(8, heap=4).share)))
    assert parts(found) == {"live": 8}


def test_pages_that_were_shared_and_written_since_are_copies() -> None:
    """Of 100 MiB that two share, one wrote to 40: each of the two has these to itself now."""
    found = account(
        stay(7, moment(7, common=100), moment(7, common=60, heap=40)),
        stay(8, moment(8, common=100), moment(8, common=60, heap=40)),
    )
    assert found.growth == 40 * MIB
    assert parts(found) == {"copies": 40}
    assert not found.unseen


def test_one_that_starts_within_the_window_counts_from_when_it_was_first_seen() -> None:
    """It shares 100 MiB with its parent, brought 3, took 20 that were counted, and 6 that nobody explains."""
    found = account(
        stay(7, moment(7, heap=100), moment(7, common=100)),
        stay(8, moment(8, common=100, heap=3), moment(8, common=100, heap=27, stacks=2, live=20), fresh=True),
    )
    assert found.growth == 29 * MIB
    assert parts(found) == {"live": 20, "started": 9}
    assert not found.unseen, "how it starts is no growth that could go on"


@pytest.mark.parametrize("own", [0, 30])
def test_what_ended_processes_held_is_among_what_was_taken_and_has_gone_with_them(own: int) -> None:
    """One had so much when the window began, and they took 50 MiB that were never given back."""
    there = moment(8, heap=own, live=1)
    gone = Gone(2, own * MIB, (there.counted, Snapshot(0.0, {BLOCKS: Counts(51, 51 * MIB)})))
    found = account(stay(7, moment(7, heap=5), moment(7, heap=5)), gone=gone, started_with=(there,))
    assert found.growth == -own * MIB
    assert parts(found) == {"live": 50, "ended": -50 - own}
    (part,) = (each for each in found.anonymous if each.name == "ended")
    assert part.meaning == "went with 2 processes that ended"


def test_a_child_that_ends_gives_its_parent_back_what_they_shared() -> None:
    child = moment(8, common=100)
    gone = Gone(1, 0, (NOTHING, NOTHING))
    found = account(stay(7, moment(7, common=100), moment(7, heap=100)), gone=gone, started_with=(child,))
    assert found.growth == 0
    assert parts(found) == {}


def test_pages_that_only_ended_processes_shared_went_with_them() -> None:
    children = moment(8, common=60), moment(9, common=60)
    gone = Gone(2, 0, (NOTHING, NOTHING))
    found = account(stay(7, moment(7, heap=5), moment(7, heap=5)), gone=gone, started_with=children)
    assert found.growth == -60 * MIB
    assert parts(found) == {"ended": -60}
