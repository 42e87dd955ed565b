"""Every function of the malloc family: what each function of a program took, gave back and holds, to the byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.trace.tracing import Row

if TYPE_CHECKING:
    from tests.trace.conftest import Trace

pytestmark = pytest.mark.ebpf

KIB = 1024
MIB = 1024 * KIB


BLOCKS = {
    "malloc_kept": Row(3, 0, 300),
    "malloc_freed": Row(5, 5, 0),
    "malloc_freed_elsewhere": Row(1, 1, 0),
    "malloc_of_nothing": Row(1, 0, 0),
    "malloc_twice": Row(2, 1, 20),
    "calloc_kept": Row(1, 0, 300),
    "calloc_freed": Row(1, 1, 0),
}


def test_malloc_calloc_and_free(trace: Trace) -> None:
    counted = trace("blocks.c")
    assert counted.table == BLOCKS
    assert counted.lost == {}
    two_places = [counts for stack, counts in counted.stacks if counted.caller(stack) == "malloc_twice"]
    assert sorted((row.allocated_bytes, row.freed_bytes) for row in two_places) == [(10, 10), (20, 0)]


def test_realloc_and_reallocarray(trace: Trace) -> None:
    counted = trace("reallocs.c")
    assert counted.table == {
        "old_grown_in_place": Row(1, 1, 0),
        "grown_in_place": Row(1, 0, 2000),
        "old_shrunk_in_place": Row(1, 1, 0),
        "shrunk_in_place": Row(1, 0, 500),
        "old_moved": Row(1, 1, 0),
        "moved": Row(1, 0, 5000),
        "old_moved_and_freed": Row(1, 1, 0),
        "moved_and_freed": Row(1, 1, 0),
        "of_null": Row(1, 0, 70),
        "old_to_nothing": Row(1, 1, 0),
        "old_fails": Row(1, 0, 310),
        "old_fails_then_freed": Row(1, 1, 0),
        "old_large_grown": Row(1, 1, 0),
        "large_grown": Row(1, 0, 4 * MIB),
        "old_large_shrunk": Row(1, 1, 0),
        "large_shrunk": Row(1, 0, 1 * MIB),
        "old_large_to_small": Row(1, 1, 0),
        "large_to_small": Row(1, 0, 40),
        "old_small_to_large": Row(1, 1, 0),
        "small_to_large": Row(1, 0, 2 * MIB),
        "old_array_grown": Row(1, 1, 0),
        "array_grown": Row(1, 0, 330),
        "array_of_null": Row(1, 0, 42),
        "old_array_to_nothing": Row(1, 1, 0),
        "old_array_overflows": Row(1, 0, 70),
        "old_array_overflows_to_nothing": Row(1, 0, 80),
        "main": Row(2, 0, 32),
    }
    assert counted.lost == {}


def test_aligned_allocations(trace: Trace) -> None:
    counted = trace("aligned.c")
    assert counted.table == {
        "aligned_alloc_kept": Row(1, 0, 640),
        "aligned_alloc_freed": Row(1, 1, 0),
        "memalign_kept": Row(1, 0, 1000),
        "memalign_freed": Row(1, 1, 0),
        "posix_memalign_kept": Row(1, 0, 777),
        "posix_memalign_freed": Row(1, 1, 0),
        "malloc_beside": Row(1, 0, 11),
        "valloc_kept": Row(1, 0, 5000),
        "valloc_freed": Row(1, 1, 0),
        "pvalloc_kept": Row(1, 0, 6000),
        "pvalloc_freed": Row(1, 1, 0),
        "aligned_large_kept": Row(1, 0, 3 * MIB),
        "aligned_large_freed": Row(1, 1, 0),
        "aligned_far_freed": Row(1, 1, 0),
    }
    assert counted.lost == {}


def test_blocks_with_a_mapping_of_their_own_are_one_call_each(trace: Trace) -> None:
    """malloc calls mmap and free calls munmap inside the C library: neither shows as a call of its own."""
    counted = trace("large.c")
    assert counted.table == {
        "at_threshold": Row(1, 0, 128 * KIB),
        "kept_large": Row(4, 0, 4 * MIB),
        "freed_large": Row(2, 2, 0),
        "calloc_large": Row(2, 1, 256 * KIB),
    }
    assert counted.lost == {}


def test_probes_at_the_entry(trace: Trace) -> None:
    """Where no better place for a probe is known, it costs more and counts the same."""
    counted = trace("blocks.c", at_entry=True)
    assert counted.table == BLOCKS
    assert counted.lost == {}


def test_a_minimum_size_leaves_smaller_blocks_out(trace: Trace) -> None:
    """A block counts by its own size: one that grows over the minimum appears, one that shrinks below it is freed."""
    counted = trace("reallocs.c", min_bytes=1000)
    assert counted.table == {
        "old_grown_in_place": Row(1, 1, 0),
        "grown_in_place": Row(1, 0, 2000),
        "old_shrunk_in_place": Row(1, 1, 0),
        "moved": Row(1, 0, 5000),
        "moved_and_freed": Row(1, 1, 0),
        "old_large_grown": Row(1, 1, 0),
        "large_grown": Row(1, 0, 4 * MIB),
        "old_large_shrunk": Row(1, 1, 0),
        "large_shrunk": Row(1, 0, 1 * MIB),
        "old_large_to_small": Row(1, 1, 0),
        "small_to_large": Row(1, 0, 2 * MIB),
    }
    assert counted.lost == {}


@pytest.mark.parametrize(("minimum", "functions"), [(300 * KIB, {"kept_large", "freed_large"}), (MIB, {"kept_large"})])
def test_the_mapping_of_a_block_below_the_minimum_is_left_out_too(
    trace: Trace, minimum: int, functions: set[str]
) -> None:
    counted = trace("large.c", min_bytes=minimum)
    assert set(counted.table) == functions
    assert counted.table["kept_large"] == Row(4, 0, 4 * MIB)
    assert counted.lost == {}


def test_a_large_block_below_the_minimum_is_left_out_when_it_is_resized_too(trace: Trace) -> None:
    counted = trace("reallocs.c", min_bytes=3 * MIB)
    assert counted.table == {"large_grown": Row(1, 0, 4 * MIB), "old_large_shrunk": Row(1, 1, 0)}
    assert counted.lost == {}


def test_an_alignment_that_takes_a_mapping_is_left_out_with_its_block(trace: Trace) -> None:
    counted = trace("aligned.c", min_bytes=4 * MIB)
    assert counted.table == {}
    assert counted.lost == {}
