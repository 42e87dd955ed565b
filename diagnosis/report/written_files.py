"""Private mappings of files that were written to: their pages are the process's own, as those of anonymous ones are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from heap_trace import MappingKind

from diagnosis.report.account import OWN_USES
from diagnosis.trace.counts import Counts
from diagnosis.trace.snapshot import NANOSECONDS, with_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diagnosis.trace.snapshot import Snapshot
    from diagnosis.trace.window import Window


def with_written_files(window: Window) -> Window:
    """The same window, in which mappings of files are memory by as much of them as was written to.

    What is not written stays the file's. Who maps files and only reads them takes address space, and no memory.
    """
    memory = window.memory_end
    if memory is None:
        return window
    files = [each for each in window.ranges if each.kind is MappingKind.FILE_MAPPED]
    written = [memory.within([(each.start, each.end)], OWN_USES) for each in files]
    sizes: defaultdict[int, int] = defaultdict(int)
    own: defaultdict[int, int] = defaultdict(int)
    for each, size in zip(files, written, strict=True):
        sizes[each.stack] += each.end - each.start
        own[each.stack] += size
    shares = {stack: size / sizes[stack] for stack, size in own.items() if size}
    if not shares:
        return window
    since_ns, now_ns = (round(each.snapshot.seconds * NANOSECONDS) for each in (window.samples[0], window.samples[-1]))
    survivors = dict(window.survivors)
    for each, size in zip(files, written, strict=True):
        if size:
            survivors[each.stack] = with_mapping(survivors.get(each.stack), size, each.time_ns, since_ns, now_ns)
    return replace(
        window,
        samples=tuple(replace(each, snapshot=_as_memory(each.snapshot, shares)) for each in window.samples),
        survivors=survivors,
        ranges=tuple(
            replace(each, kind=MappingKind.MAPPED)
            if each.kind is MappingKind.FILE_MAPPED and each.stack in shares
            else each
            for each in window.ranges
        ),
    )


def _as_memory(snapshot: Snapshot, shares: Mapping[int, float]) -> Snapshot:
    files = dict(snapshot.apart.get(MappingKind.FILE_MAPPED, {}))
    counts = dict(snapshot.counts)
    for stack, share in shares.items():
        each = files.pop(stack, Counts())
        taken, freed = (round(share * size) for size in (each.allocated_bytes, each.freed_bytes))
        counts[stack] = counts.get(stack, Counts()) + Counts(each.allocations, taken, each.frees, freed)
    return replace(snapshot, counts=counts, apart={**snapshot.apart, MappingKind.FILE_MAPPED: files})
