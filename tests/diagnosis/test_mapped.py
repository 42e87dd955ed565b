from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from heap_trace import MappingEvent, MappingKind

from diagnosis.trace.counts import Counts
from diagnosis.trace.mapped import MAX_PARTS, PAGE_BYTES, MappedRanges, kind_at
from tests.diagnosis.recorded import end, record

if TYPE_CHECKING:
    from pathlib import Path

PAGE = PAGE_BYTES
BASE = 0x7F0000000000


def event(kind: MappingKind, page: int, pages: float, *, stack: int = 1, at: int = 0, thread: int = 1) -> MappingEvent:
    """An event on whole pages from ``BASE`` on; a length that is no whole number of pages is one in bytes."""
    return MappingEvent(kind, BASE + page * PAGE, int(pages * PAGE), stack, at, thread)


def mapped(page: int, pages: float, *, stack: int = 1, at: int = 0, thread: int = 1) -> MappingEvent:
    return event(MappingKind.MAPPED, page, pages, stack=stack, at=at, thread=thread)


def unmapped(page: int, pages: float, *, thread: int = 1) -> MappingEvent:
    return event(MappingKind.UNMAPPED, page, pages, thread=thread)


def restored(page: int, *, thread: int = 1) -> MappingEvent:
    return event(MappingKind.RESTORED, page, 0, thread=thread)


def moved(to: int, pages: float, *, stack: int = 2, at: int = 0, thread: int = 1) -> MappingEvent:
    return event(MappingKind.MOVED, to, pages, stack=stack, at=at, thread=thread)


def after(*events: MappingEvent) -> MappedRanges:
    ranges = MappedRanges()
    ranges.apply(events)
    return ranges


def pages_of(ranges: MappedRanges, stack: int = 1) -> tuple[int, float, int, float]:
    """(allocations, pages taken, frees, pages given back) of a stack."""
    counts = ranges.counts[stack]
    return counts.allocations, counts.allocated_bytes / PAGE, counts.frees, counts.freed_bytes / PAGE


def test_a_mapping_that_stays_is_outstanding() -> None:
    ranges = after(mapped(0, 4, stack=7, at=123))
    assert ranges.counts[7] == Counts(1, 4 * PAGE, 0, 0)
    assert ranges.counts[7].outstanding == 1
    assert ranges.counts[7].outstanding_bytes == 4 * PAGE
    assert ranges.survivors() == [(7, 4 * PAGE, 123)]


def test_a_mapping_is_as_long_as_its_pages() -> None:
    assert pages_of(after(mapped(0, 0.1))) == (1, 1, 0, 0)
    assert pages_of(after(mapped(0, 2.5))) == (1, 3, 0, 0)


def test_a_mapping_that_goes_as_a_whole_is_freed() -> None:
    ranges = after(mapped(0, 4), unmapped(0, 4))
    assert pages_of(ranges) == (1, 4, 1, 4)
    assert ranges.survivors() == []


@pytest.mark.parametrize(("page", "pages"), [(0, 1), (3, 1), (1, 2)], ids=["head", "tail", "middle"])
def test_a_cut_gives_bytes_back_and_counts_as_free_only_with_the_last_one(page: int, pages: int) -> None:
    ranges = after(mapped(0, 4), unmapped(page, pages))
    assert pages_of(ranges) == (1, 4, 0, pages)
    assert ranges.survivors() == [(1, (4 - pages) * PAGE, 0)]
    ranges.apply([unmapped(0, 4)])
    assert pages_of(ranges) == (1, 4, 1, 4)


def test_the_same_pages_are_given_back_once() -> None:
    assert pages_of(after(mapped(0, 4), unmapped(0, 2), unmapped(0, 2))) == (1, 4, 0, 2)


def test_one_cut_can_go_through_several_mappings() -> None:
    ranges = after(mapped(0, 4, stack=1), mapped(4, 4, stack=2), mapped(8, 4, stack=3), unmapped(2, 8))
    assert pages_of(ranges, 1) == (1, 4, 0, 2)
    assert pages_of(ranges, 2) == (1, 4, 1, 4)
    assert pages_of(ranges, 3) == (1, 4, 0, 2)


def test_what_was_mapped_before_the_trace_is_none_of_its_business() -> None:
    ranges = after(unmapped(0, 4), restored(0), unmapped(8, 1))
    assert not ranges.counts
    assert ranges.survivors() == []


def test_a_fixed_mapping_replaces_what_was_there() -> None:
    ranges = after(mapped(0, 4, stack=1, at=1), mapped(1, 1, stack=2, at=2))
    assert pages_of(ranges, 1) == (1, 4, 0, 1)
    assert pages_of(ranges, 2) == (1, 1, 0, 0)
    assert sorted(ranges.survivors()) == [(1, 3 * PAGE, 1), (2, PAGE, 2)]


def test_a_reservation_takes_nothing_and_replaces_what_was_there() -> None:
    ranges = after(mapped(0, 4), event(MappingKind.RESERVED, 1, 2, stack=2))
    assert pages_of(ranges, 1) == (1, 4, 0, 2)
    assert ranges.counts[2] == Counts()


def test_what_is_moved_keeps_its_age_and_what_is_added_is_new() -> None:
    """mremap: the old range goes at its entry, the new one comes at its return."""
    ranges = after(mapped(0, 4, stack=1, at=1), unmapped(0, 4), moved(100, 6, at=2))
    assert pages_of(ranges, 1) == (1, 4, 0, 0)
    assert pages_of(ranges, 2) == (1, 2, 0, 0)
    assert ranges.survivors() == [(1, 4 * PAGE, 1), (2, 2 * PAGE, 2)]
    ranges.apply([unmapped(100, 6), moved(100, 3), unmapped(100, 3)])
    assert pages_of(ranges, 1) == (1, 4, 1, 4)
    assert pages_of(ranges, 2) == (1, 2, 1, 2)


def test_of_a_range_from_before_the_trace_only_what_is_added_counts() -> None:
    ranges = after(unmapped(0, 40), moved(100, 44, at=5))
    assert pages_of(ranges, 2) == (1, 4, 0, 0)
    (added,) = ranges.ranges()
    assert (added.start, added.end, added.time_ns) == (BASE + 140 * PAGE, BASE + 144 * PAGE, 5)
    assert not after(unmapped(0, 40), moved(0, 30)).ranges()


@pytest.mark.parametrize("kind", [MappingKind.FILE_MAPPED, MappingKind.SHARED, MappingKind.RESERVED])
def test_what_is_moved_stays_what_it_is(kind: MappingKind) -> None:
    ranges = after(event(kind, 0, 1), unmapped(0, 1), moved(100, 4))
    assert {each.kind for each in ranges.ranges()} == {kind}
    ranges = after(event(kind, 0, 4), unmapped(1, 0), moved(100, 4))  # a copy: the old range stays
    assert [each.kind for each in ranges.ranges()] == [kind] * 3


@pytest.mark.parametrize("kind", [MappingKind.MAPPED, MappingKind.FILE_MAPPED])
def test_what_a_range_from_before_the_trace_is_gets_asked_once(kind: MappingKind) -> None:
    asked: list[int] = []
    ranges = MappedRanges(lambda address: asked.append(address) or kind)  # type: ignore[func-returns-value]
    ranges.apply([unmapped(0, 1), moved(100, 4), unmapped(100, 4), moved(100, 1), unmapped(100, 1), moved(50, 2)])
    assert asked == [BASE + 100 * PAGE]
    assert [each.kind for each in ranges.ranges()] == [kind]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("rw-s 00000000 fd:01 17 /data/segment", MappingKind.FILE_MAPPED),
        ("rw-s 00000000 00:01 17 /dev/zero (deleted)", MappingKind.SHARED),
        ("rw-p 00000000 00:00 0", MappingKind.MAPPED),
        ("rw-p 00000000 00:00 0 [anon:arena]", MappingKind.MAPPED),
        ("---p 00000000 00:00 0", MappingKind.RESERVED),
    ],
)
def test_the_kind_of_a_mapping_is_read_where_no_event_told_it(tmp_path: Path, line: str, kind: MappingKind) -> None:
    process = record(tmp_path, maps=f"7f0000000000-7f0000010000 {line}\n")
    assert kind_at(process, 0x7F0000001000) is kind
    end(tmp_path)
    assert kind_at(process, 0x7F0000001000) is MappingKind.MAPPED


def test_of_a_range_that_grows_often_the_parts_are_few_and_the_bytes_and_ages_right() -> None:
    ranges, grown = after(mapped(0, 1, stack=2)), 1000
    for size in range(1, grown):
        ranges.apply([unmapped(0, size), moved(0, size + 1, at=size)])
    assert len(ranges.ranges()) <= MAX_PARTS + 1
    assert ranges.counts[2].outstanding_bytes == grown * PAGE
    assert (ranges.counts[2].allocations, ranges.counts[2].frees) == (grown, 0)
    old = sum(size for _, size, born in ranges.survivors() if born <= grown // 2)
    assert old / PAGE == pytest.approx(grown / 2, rel=0.1)
    ranges.apply([unmapped(0, grown)])
    assert ranges.counts[2] == Counts(grown, grown * PAGE, grown, grown * PAGE)


def test_parts_of_several_stacks_are_put_together_as_well() -> None:
    ranges, grown = after(mapped(0, 1)), 500
    for size in range(1, grown):
        ranges.apply([unmapped(0, size), moved(0, size + 1, stack=size % 2 + 1)])
    assert len(ranges.ranges()) <= MAX_PARTS + 1
    assert sum(counts.outstanding_bytes for counts in ranges.counts.values()) == grown * PAGE
    ranges.apply([unmapped(0, grown)])
    assert all((each.outstanding_bytes, each.outstanding) == (0, 0) for each in ranges.counts.values())


@pytest.mark.parametrize(("page", "pages"), [(0, 4), (1, 1), (0, 2), (-2, 10)])
def test_a_call_that_failed_gives_nothing_back(page: int, pages: int) -> None:
    ranges = after(mapped(0, 2), mapped(2, 2, stack=2), unmapped(page, pages), restored(page))
    assert pages_of(ranges, 1) == (1, 2, 0, 0)
    assert pages_of(ranges, 2) == (1, 2, 0, 0)
    assert sorted(ranges.survivors()) == [(1, 2 * PAGE, 0), (2, 2 * PAGE, 0)]
    ranges.apply([unmapped(0, 4)])
    assert pages_of(ranges, 1) == (1, 2, 1, 2)


def test_a_failure_undoes_the_last_call_of_its_own_thread() -> None:
    ranges = after(mapped(0, 4), mapped(10, 4, stack=2), unmapped(0, 4, thread=1), unmapped(10, 4, thread=2))
    ranges.apply([restored(0, thread=1)])
    assert pages_of(ranges, 1) == (1, 4, 0, 0)
    assert pages_of(ranges, 2) == (1, 4, 1, 4)


def test_a_failure_does_not_undo_what_was_done_before_a_later_mapping() -> None:
    ranges = after(mapped(0, 4), unmapped(0, 4), mapped(10, 1, stack=2), restored(0))
    assert pages_of(ranges, 1) == (1, 4, 1, 4)


def test_counts_add_and_subtract_field_by_field() -> None:
    total, part = Counts(10, 1000, 4, 400), Counts(3, 30, 2, 20)
    assert total + part == Counts(13, 1030, 6, 420)
    assert total - part == Counts(7, 970, 2, 380)


@dataclass
class PageByPage:
    """The same books as simply as they can be kept: for each page the call that mapped it."""

    owner: dict[int, int] = field(default_factory=dict)
    calls: list[tuple[int, int, int]] = field(default_factory=list)  # stack, pages, time
    cut: dict[int, dict[int, int]] = field(default_factory=dict)

    def map(self, page: int, pages: int, stack: int, at: int, thread: int) -> None:
        self.calls.append((stack, pages, at))
        for each in range(page, page + pages):
            self.owner[each] = len(self.calls) - 1
        self.cut.pop(thread, None)

    def unmap(self, page: int, pages: int, thread: int) -> None:
        gone = {each: self.owner.pop(each) for each in range(page, page + pages) if each in self.owner}
        self.cut[thread] = gone

    def move(self, page: int, to: int, pages: int, thread: int) -> None:
        """After ``unmap`` of as many pages."""
        for each in range(to, to + pages):
            self.owner.pop(each, None)
        self.owner |= {each - page + to: call for each, call in self.cut.pop(thread).items()}

    def restore(self, thread: int) -> None:
        self.owner |= self.cut.pop(thread, {})

    def left(self) -> dict[int, int]:
        """Pages that are left of each call."""
        left: defaultdict[int, int] = defaultdict(int)
        for call in self.owner.values():
            left[call] += 1
        return left

    def counts(self) -> dict[int, Counts]:
        left = self.left()
        total: defaultdict[int, Counts] = defaultdict(Counts)
        for call, (stack, pages, _) in enumerate(self.calls):
            total[stack] += Counts(1, pages * PAGE, left[call] == 0, (pages - left[call]) * PAGE)
        return dict(total)

    def survivors(self) -> list[tuple[int, int, int]]:
        return sorted((self.calls[call][0], pages * PAGE, self.calls[call][2]) for call, pages in self.left().items())


@pytest.mark.parametrize("seed", range(20))
def test_random_histories_agree_with_a_book_kept_page_by_page(seed: int) -> None:
    chance = random.Random(seed)
    ranges, model = MappedRanges(), PageByPage()
    for at in range(400):
        page, pages, stack, thread = chance.randrange(60), chance.randint(1, 12), chance.randint(1, 4), at % 3
        match chance.choice(["map", "map", "unmap", "unmap", "fail", "move", "move fails"]):
            case "map":
                model.map(page, pages, stack, at, thread)
                ranges.apply([mapped(page, pages, stack=stack, at=at, thread=thread)])
            case "unmap":
                model.unmap(page, pages, thread)
                ranges.apply([unmapped(page, pages, thread=thread)])
            case "move":
                model.unmap(page, pages, thread)
                ranges.apply([unmapped(page, pages, thread=thread)])
                to = 100 + chance.randrange(60)
                model.move(page, to, pages, thread)
                ranges.apply([moved(to, pages, stack=stack, at=at, thread=thread)])
            case _:  # another thread works elsewhere before the failure is known
                model.unmap(page, pages, thread)
                model.map(200 + page, pages, stack, at, thread + 10)
                model.restore(thread)
                ranges.apply(
                    [
                        unmapped(page, pages, thread=thread),
                        mapped(200 + page, pages, stack=stack, at=at, thread=thread + 10),
                        restored(page, thread=thread),
                    ]
                )
        assert {stack: counts for stack, counts in ranges.counts.items() if counts != Counts()} == model.counts()
        assert sorted(ranges.survivors()) == model.survivors()
