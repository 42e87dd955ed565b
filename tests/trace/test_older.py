"""Frees of blocks from before the trace: how many, how many bytes, and by whom. realloc keeps a block's birth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from diagnosis.target.symbols import Symbolizer
from tests.trace.tracing import NO_DEBUG_FILES, Row, Target, count

if TYPE_CHECKING:
    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing

pytestmark = pytest.mark.ebpf

BLOCKS = 50


def test_frees_of_older_blocks_are_counted_with_their_bytes_by_function(
    build: Build, closing: Closing, allow_session: bool
) -> None:
    with (
        Target([build("older.c")]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        small, large, grown = map(int, target.line.split())
        assert target.go() == "freed"
        snapshot, older = tracer.snapshot(), tracer.older()
        with Symbolizer(tracer.process, NO_DEBUG_FILES) as symbolizer:
            by_function = {
                symbolizer.symbolize((address,)).frames[0].name: each for address, each in older.items() if each.frees
            }
    assert {name: (each.frees, each.bytes, each.unsized) for name, each in by_function.items()} == {
        "frees_older": (BLOCKS, small, 0),
        "frees_older_large": (1, large, 0),
        "grows_older": (1, grown, 0),
    }
    assert snapshot.older
    assert (snapshot.older.frees, snapshot.older.bytes) == (BLOCKS + 2, small + large + grown)
    # Which stack a realloc's old block belongs to is known: only the other two are looked for by their size.
    assert sum(each.frees for each in snapshot.older_sizes) == BLOCKS + 1
    assert sum(each.bytes for each in snapshot.older_sizes) == small + large
    replacing = [counts for counts in snapshot.counts.values() if counts.replaced]
    assert [(counts.replaced, counts.replaced_bytes) for counts in replacing] == [(1, grown)]


def test_realloc_keeps_the_birth_of_a_block(build: Build, closing: Closing) -> None:
    """GIVEN a block that is older than a snapshot, and moved after it THEN it survives since then, as old as it is."""
    with Target([build("older.c")]) as target, closing.tracing(target) as tracer:
        assert target.go() == "freed"
        between = tracer.snapshot()
        assert target.go() == "done"
        survivors = tracer.survivors(between)
        counted = count(tracer)
    assert counted.table["grows_older"] == Row(1, 1, 0)
    assert counted.table["grows_again"] == Row(1, 0, 9000)
    (survivor,) = survivors.values()
    assert (survivor.blocks, survivor.bytes) == (1, 9000)
    assert (survivor.third_blocks, survivor.third_bytes) == ((1, 0, 0), (9000, 0, 0))


def test_what_the_c_library_frees_for_a_thread_that_ends_is_no_older_block(
    build: Build, closing: Closing, allow_session: bool
) -> None:
    """It frees what is in the thread's cache once more, and a leak of such sizes would pass for replaced.

    GIVEN 40 threads with a block each in their caches THEN the first thread's shows which code that is, and one block
    counts besides it: the stream that is older.
    """
    with (
        Target([build("requests.c")]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        target.go()
        older, counted = tracer.snapshot().older, count(tracer)
    assert counted.table["request_keeps"] == Row(80, 0, 40 * (640 + 200))
    assert counted.table["request_frees"] == Row(40, 40, 0)
    assert older
    assert older.frees == 1 + 1
    assert counted.lost == {}
