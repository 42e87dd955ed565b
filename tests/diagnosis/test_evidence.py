"""From counts, frees of older blocks and mappings to what the verdict rests on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from heap_trace import Lost, MappingKind, Older, SizeClass

from diagnosis.report.account import Traced, account
from diagnosis.report.counted import Counted, evenly
from diagnosis.report.evidence import gather, traced
from diagnosis.report.history import Takes
from diagnosis.report.rounding import GLIBC, OTHERS, size_class
from diagnosis.report.site import CallSite
from diagnosis.target.memory import Memory, Range, Use
from diagnosis.target.process import Resident
from diagnosis.trace.counts import Counts
from diagnosis.trace.mapped import MappedRange
from diagnosis.trace.snapshot import Snapshot, Survivors
from diagnosis.trace.window import Sample, Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from diagnosis.report.rounding import Blocks

KIB, MIB = 1024, 1 << 20
READINGS = 13
SESSION, MAPPER, FILES, RESERVER = 1, 2, 3, 4
NAMES = {SESSION: "session_new", MAPPER: "pool_map", FILES: "segment_map", RESERVER: "heap_reserve"}


CLASSES = (SizeClass(0, 0),) * 256


def snapshot(reading: int, older_unsized: int = 0) -> Snapshot:
    """Each reading 100 sessions more, as many older ones freed, a mapping more, and a mapped file more."""
    sizes = [SizeClass(0, 0)] * 256
    sizes[size_class(8008)] = SizeClass(100 * reading, 100 * reading * 8008)
    return Snapshot(
        1000.0 + reading,
        {
            SESSION: Counts(100 * reading, 100 * reading * 8000, 0, 0),
            MAPPER: Counts(reading, reading * MIB, 0, 0),
        },
        Older(100 * reading, 100 * reading * 8008, older_unsized * reading),
        tuple(sizes),
        (0, 0),
        {MappingKind.FILE_MAPPED: {FILES: Counts(reading, reading * 64 * MIB, 0, 0)}},
    )


def counted(make: Callable[[int], Snapshot] = snapshot, **changes: Any) -> Counted:  # noqa: ANN401
    samples = tuple(Sample(make(each), Resident(MIB * each, MIB * each)) for each in range(READINGS))
    ranges = tuple(
        MappedRange((1 + each) << 20, (2 + each) << 20, MAPPER, MappingKind.MAPPED, 1) for each in range(READINGS)
    )
    window = Window(samples, {}, dict.fromkeys(Lost, 0), ranges=changes.pop("ranges", ranges), **changes)
    first, last = samples[0].snapshot, samples[-1].snapshot
    return Counted(window, last.since(first), lambda stack: CallSite(NAMES[stack], "main"), lost=0)


def test_older_blocks_of_its_size_are_set_against_a_site() -> None:
    evidence = gather(counted(), None, ())
    session = next(site for site in evidence.sites if site.site.function == "session_new")
    assert session.allocations == 1200
    assert session.older_frees == pytest.approx(1200, abs=2)
    assert abs(session.growth) < 16 * KIB
    assert evidence.live_known
    assert evidence.older_frees == 1200


def test_a_block_from_before_the_window_that_realloc_makes_larger_grows_by_the_difference() -> None:
    """A buffer of 40 MiB that is 4 MiB larger at each reading: its first realloc is of a block that is older."""

    def grown(reading: int) -> Snapshot:
        bytes_taken = sum(40 * MIB + 4 * MIB * each for each in range(1, reading + 1))
        freed = bytes_taken - (40 * MIB + 4 * MIB * reading) if reading else 0
        counts = Counts(reading, bytes_taken, max(0, reading - 1), freed, int(reading > 0), 40 * MIB * (reading > 0))
        older = Older(int(reading > 0), 40 * MIB * (reading > 0), 0)
        return Snapshot(1000.0 + reading, {SESSION: counts}, older, CLASSES)

    evidence = gather(counted(grown), None, ())
    (site,) = (each for each in evidence.sites if each.site.function == "session_new")
    assert site.outstanding == tuple(4 * MIB * each for each in range(READINGS))
    assert (site.allocations, site.frees, site.replaced, site.older_frees, site.kept) == (12, 11, 1, 0, 0)
    assert tuple(evidence.live) == site.outstanding


def test_what_is_old_and_what_processes_that_came_later_hold_is_told_by_thirds() -> None:
    found = counted()
    survivors = {SESSION: Survivors(9, 900, 12.0, (3, 4, 2), (300, 400, 200), (200, 100, 0))}
    evidence = gather(replace(found, window=replace(found.window, survivors=survivors)), None, ())
    session = next(site for site in evidence.sites if site.site.function == "session_new")
    assert (session.first_bytes, session.kept_bytes, session.fresh_bytes) == (300, 700, (200, 100, 0))
    assert session.warmed_up == 150


def test_mappings_and_files_are_told_from_blocks() -> None:
    takes = {site.site.function: site.takes for site in gather(counted(), None, ()).sites}
    assert takes == {"session_new": Takes.BLOCKS, "pool_map": Takes.MAPPINGS, "segment_map": Takes.FILES}


@pytest.mark.parametrize("use", [Use.OTHER, Use.HEAP, Use.STACKS])
def test_what_is_in_memory_of_a_mapping_is_its_mappers_whatever_the_kernel_takes_it_for(use: Use) -> None:
    """Stacks of coroutines lie on guard pages as those of threads do."""
    end = Memory(ranges=(Range(1 << 20, (1 + READINGS) << 20, READINGS * MIB, use),))
    sites = gather(counted(memory_start=Memory(), memory_end=end), None, ()).sites
    assert next(site for site in sites if site.site.function == "pool_map").resident_bytes == READINGS * MIB


def test_shared_mappings_are_no_blocks() -> None:
    shared = tuple(replace(each, kind=MappingKind.SHARED) for each in counted().window.ranges)
    end = Memory(shared_ranges=(Range(1 << 20, (1 + READINGS) << 20, READINGS * MIB, Use.OTHER),))
    found = counted(ranges=shared, memory_start=Memory(), memory_end=end)
    assert traced(found).live_growth == 0, "blocks that replace as many older ones; no shared range among them"
    assert len(traced(found).shared) == READINGS
    site = next(site for site in gather(found, None, ()).sites if site.site.function == "pool_map")
    assert (site.takes, site.resident_bytes) == (Takes.MAPPINGS, READINGS * MIB)


def test_the_live_heap_is_all_that_was_taken_less_all_that_was_freed() -> None:
    found = traced(counted())
    assert found.live_growth == 0, "glibc's usable size of 8000 bytes is 8008"
    assert found.overhead == 0, "as many new ones as old ones"
    assert found.freed == 1200 * 8000
    assert len(found.mapped) == READINGS


def test_small_blocks_take_more_than_they_hold() -> None:
    """GIVEN blocks of a byte THEN what glibc takes for them beside it is no memory that nobody explains."""

    def nodes(reading: int) -> Snapshot:
        return Snapshot(1000.0 + reading, {SESSION: Counts(50_000 * reading, 50_000 * reading)}, Older(), CLASSES)

    found = counted(nodes, ranges=())
    known = traced(found)
    assert (known.live_growth, known.overhead) == (600_000, 600_000 * 31)
    grown = Memory(anonymous=600_000 * 32, uses=Counter({Use.HEAP: 600_000 * 32}))
    parts = {part.name: part.bytes for part in account(Memory(), grown, known).anonymous}
    assert parts == {"live": 600_000, "overhead": 600_000 * 31}


@pytest.mark.parametrize(("blocks", "unexplained"), [(GLIBC, 30 * MIB), (OTHERS, 0)])
def test_an_allocator_that_keeps_its_memory_in_mappings_holds_there_what_was_freed(
    blocks: Blocks, unexplained: int
) -> None:
    """As jemalloc does; glibc's lies in its heap and its arenas."""

    def churned(reading: int) -> Snapshot:
        """Each reading 4 MiB more were taken and freed."""
        churn = Counts(4 * reading, 4 * reading * MIB, 4 * reading, 4 * reading * MIB)
        return Snapshot(1000.0 + reading, {SESSION: churn}, Older(0, 0, 0), CLASSES, (0, 0), {})

    found = replace(counted(churned, ranges=()), blocks=blocks)
    grown = account(Memory(), Memory(anonymous=30 * MIB, uses=Counter({Use.OTHER: 30 * MIB})), traced(found))
    assert sum(part.bytes for part in grown.unseen) == unexplained
    assert sum(part.bytes for part in grown.anonymous) == 30 * MIB


@pytest.mark.parametrize(("unsized", "known"), [(0, True), (1, True), (50, False)])
def test_frees_of_unknown_size_make_the_live_heap_unknown(unsized: int, known: bool) -> None:
    assert gather(counted(lambda each: snapshot(each, unsized)), None, ()).live_known is known


def test_an_allocator_that_tells_nothing_makes_the_live_heap_unknown() -> None:
    def silent(reading: int) -> Snapshot:
        return Snapshot(1000.0 + reading, {SESSION: Counts(reading, reading, 0, 0)})

    assert not gather(counted(silent), None, ()).live_known


def test_who_reserved_the_addresses_of_an_unexplained_growth_is_named() -> None:
    kept = Range(1 << 30, 2 << 30, 40 * MIB, Use.OTHER)
    memory = Memory(anonymous=kept.bytes, ranges=(kept,), uses=Counter({Use.OTHER: kept.bytes}))
    reserved = (MappedRange(1 << 30, 2 << 30, RESERVER, MappingKind.RESERVED, 1),)
    found = counted(ranges=reserved, memory_start=Memory(), memory_end=memory)
    (unseen,) = gather(found, account(Memory(), memory, Traced(0, 0)), ()).unseen
    assert unseen.site == CallSite("heap_reserve", "main")
    assert unseen.reserved[0].bytes == 40 * MIB


def test_readings_that_came_late_are_taken_at_even_distances() -> None:
    assert evenly([0, 1, 2, 3, 4]) == [0, 1, 2, 3, 4]
    assert evenly([0, 0.1, 0.2, 0.3, 8]) == [0, 3, 3, 4, 4]


def beside(bytes_freed: int = 0) -> Callable[[int], Snapshot]:
    """Blocks of half of what the memory grows by, of which so many bytes were freed."""
    return lambda reading: Snapshot(
        1000.0 + reading,
        {SESSION: Counts(reading, reading * MIB // 2 + bytes_freed * (reading > 0), 0, bytes_freed * (reading > 0))},
        Older(),
        CLASSES,
    )


def test_of_several_processes_what_no_call_explains_is_known_as_far_as_nothing_was_freed() -> None:
    (unseen,) = gather(counted(beside(), ranges=()), None, ()).unseen
    headers = (READINGS - 1) * 16
    assert unseen.bytes == (READINGS - 1) * MIB // 2 - headers
    assert unseen.readings[-1] == unseen.bytes + headers
    (less,) = gather(counted(beside(2 * MIB), ranges=()), None, ()).unseen
    assert less.bytes == unseen.bytes - 2 * MIB
    assert not gather(counted(beside(6 * MIB), ranges=()), None, ()).unseen, "the allocator may hold it"


def test_what_processes_brought_that_came_within_the_window_is_not_known() -> None:
    assert not gather(counted(beside(), ranges=(), same_processes=False), None, ()).unseen


def test_blocks_that_found_no_room_are_doubtful_up_to_the_frees_of_older_blocks() -> None:
    found = counted()  # 1,200 older blocks are freed
    full = replace(
        found, window=replace(found.window, lost={**found.window.lost, Lost.BLOCKS: 5000, Lost.DISCARDED: 1}), lost=5001
    )
    evidence = gather(full, None, ())
    assert (evidence.lost, evidence.harmless, evidence.doubtful) == (5001, 3800, 1201)
    assert evidence.discarded == 1
    silent = gather(replace(full, window=replace(full.window, samples=unknown(full))), None, ())
    assert silent.doubtful == 5001, "nobody counts the frees of older blocks"


def unknown(found: Counted) -> tuple[Sample, ...]:
    """Its readings where the allocator's frees of older blocks are not counted."""
    return tuple(replace(each, snapshot=replace(each.snapshot, older=None)) for each in found.window.samples)
