"""From the counts of a window to what the verdict rests on: call sites over time, the live heap, unexplained growth."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from diagnosis.report.site import call_site
from diagnosis.report.verdict import Evidence, SiteHistory, Unseen
from diagnosis.trace.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diagnosis.report.account import Account
    from diagnosis.report.site import CallSite
    from diagnosis.report.verdict import Touched
    from diagnosis.target.symbols import SymbolizedStack
    from diagnosis.trace.tracer import Snapshot
    from diagnosis.trace.window import Window

# Who touched less than this share of an unexplained growth is not named for it, and no more than so many are.
WORTH_A_NAME = 0.1
SUSPECTS = 3

# What resident memory does not count.
NOT_RESIDENT = frozenset({"memfd", "hugetlb"})


def gather(
    window: Window,
    changes: Mapping[int, Counts],
    symbolized: Mapping[int, SymbolizedStack],
    lost: int,
    *,
    grown: Account | None,
    touched: Sequence[Touched],
) -> Evidence:
    """Everything that the rule looks at.

    Args:
        window: what was measured.
        changes: what each stack did in it.
        symbolized: the stacks by name.
        lost: events that were not counted.
        grown: the account of memory, where there is one.
        touched: who touched new memory, most first.
    """
    sites = _sites(changes, symbolized, window)
    snapshots = [sample.snapshot for sample in window.samples]
    held = [sample.resident.held_bytes for sample in window.samples]
    live = [sum(counts.outstanding_bytes for counts in snapshot.counts.values()) for snapshot in snapshots]
    return Evidence(
        seconds=window.seconds,
        sites=sites,
        live=[each - live[0] for each in live],
        memory=[each - held[0] for each in held],
        unseen=_unseen(grown, sites, touched) if grown else (),
        lost=lost,
    )


def _unseen(grown: Account, sites: Sequence[SiteHistory], touched: Sequence[Touched]) -> tuple[Unseen, ...]:
    # Who takes blocks and keeps them touches them as well: that is no growth beside the allocator.
    takers = {site.site.function for site in sites if site.growth > 0}
    others = [each for each in touched if not takers & set(each.site)]
    return tuple(
        Unseen(
            part.bytes,
            part.name,
            part.meaning,
            resident=part.name not in NOT_RESIDENT,
            touched=tuple(each for each in others if each.bytes >= WORTH_A_NAME * part.bytes)[:SUSPECTS],
        )
        for part in grown.unseen
    )


def _sites(
    changes: Mapping[int, Counts], symbolized: Mapping[int, SymbolizedStack], window: Window
) -> list[SiteHistory]:
    stacks: defaultdict[CallSite, list[int]] = defaultdict(list)
    for stack in changes:
        stacks[call_site(symbolized[stack].frames)].append(stack)
    nothing = Counts()

    def outstanding(snapshot: Snapshot, members: list[int]) -> int:
        return sum(snapshot.counts.get(stack, nothing).outstanding_bytes for stack in members)

    first = window.samples[0].snapshot
    return [
        SiteHistory(
            site,
            outstanding=tuple(
                outstanding(sample.snapshot, members) - outstanding(first, members) for sample in window.samples
            ),
            allocations=sum(changes[stack].allocations for stack in members),
            frees=sum(changes[stack].frees for stack in members),
            oldest_seconds=max(
                (window.survivors[stack].oldest_seconds for stack in members if stack in window.survivors), default=0.0
            ),
        )
        for site, members in stacks.items()
    ]
