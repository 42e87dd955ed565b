from __future__ import annotations

from heap_trace import MappingKind

from diagnosis.trace.counts import Counts
from diagnosis.trace.snapshot import Snapshot


def test_a_snapshot_shares_the_counts_of_the_stacks_that_did_nothing() -> None:
    earlier = Snapshot(1.0, {1: Counts(5, 500), 2: Counts(7, 700)}, apart={MappingKind.MAPPED: {3: Counts(1, 10)}})
    counts = {1: Counts(5, 500), 2: Counts(8, 800), 4: Counts(1, 100)}
    later = Snapshot(2.0, counts, apart={MappingKind.MAPPED: {3: Counts(1, 10)}})

    shared = later.sharing(earlier)

    assert shared == later
    assert shared.counts[1] is earlier.counts[1]
    assert shared.counts[2] is counts[2]
    assert shared.apart[MappingKind.MAPPED][3] is earlier.apart[MappingKind.MAPPED][3]
