"""From the counts of a window to what the verdict rests on: call sites over time, the live heap, unexplained growth."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from heap_trace import Lost, MappingKind

from diagnosis.report.account import OWN_USES, UNSEEN_MEANING, Traced
from diagnosis.report.history import Evidence, SiteHistory, Takes
from diagnosis.report.older import Freed
from diagnosis.report.unseen import Touched, Unseen
from diagnosis.target.memory import Use
from diagnosis.trace.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from diagnosis.report.account import Account
    from diagnosis.report.counted import Counted
    from diagnosis.report.site import CallSite
    from diagnosis.trace.snapshot import Survivors

# Who touched less than this share of an unexplained growth is not named for it, and no more than so many are.
WORTH_A_NAME = 0.1
SUSPECTS = 3

# What resident memory does not count.
NOT_RESIDENT = frozenset({"memfd", "hugetlb"})

# Without an account less than this is noise: the kernel counts the memory of each process in batches.
UNACCOUNTED_BYTES = 1 << 20

# By which parts of an account a reserved range of addresses shows, once it is used.
_RESERVED_USES = {"stacks": (Use.STACKS,), "unseen": (Use.OTHER, Use.HEAP)}


def traced(counted: Counted) -> Traced:
    """What the trace says for the account of memory."""
    mapping_stacks = counted.mapping_stacks
    blocks = [counts for stack, counts in counted.changes.items() if stack not in mapping_stacks]
    older = counted.older_bytes(counted.last)
    return Traced(
        live_growth=sum(counts.outstanding_bytes for counts in blocks) - older,
        freed=sum(counts.freed_bytes for counts in blocks) + older,
        overhead=counted.overhead_growth,
        brk_is_free=counted.blocks.of_glibc,
        mapped=_ranges(counted, MappingKind.MAPPED),
        shared=_ranges(counted, MappingKind.SHARED),
    )


def _ranges(counted: Counted, kind: MappingKind) -> tuple[tuple[int, int], ...]:
    return tuple((each.start, each.end) for each in counted.window.ranges if each.kind is kind)


def gather(counted: Counted, grown: Account | None, touched: Sequence[Touched]) -> Evidence:
    """Everything that the rule looks at.

    Args:
        counted: what the trace counted.
        grown: the account of memory, where there is one.
        touched: who touched new memory, most first.
    """
    window = counted.window
    sites = [*_sites(counted), *_file_sites(counted)]
    held = [sample.resident.held_bytes for sample in counted.samples]
    live = [
        sum(counts.outstanding_bytes for counts in sample.snapshot.counts.values())
        - counted.older_bytes(sample.snapshot)
        for sample in counted.samples
    ]
    return Evidence(
        seconds=window.seconds,
        sites=sites,
        live=_since_the_first(live),
        memory=_since_the_first(held),
        live_known=counted.live_known,
        unseen=_unseen(counted, grown, sites, touched, live) if grown else _unaccounted(counted, held, live),
        untouched_bytes=grown.untouched_bytes if grown else 0,
        touched=touched,
        lost=counted.lost,
        harmless=_harmless(counted),
        discarded=window.lost[Lost.DISCARDED],
        older_frees=counted.older_frees,
        late_unsized=counted.late_unsized,
    )


def _harmless(counted: Counted) -> int:
    """Of the blocks that found no room, those that were not freed: frees of such count as frees of older blocks."""
    no_room = counted.window.lost[Lost.BLOCKS]
    return max(0, no_room - counted.older_frees) if counted.last.older else 0


def _unseen(
    counted: Counted,
    grown: Account,
    sites: Sequence[SiteHistory],
    touched: Sequence[Touched],
    live: Sequence[int],
) -> tuple[Unseen, ...]:
    # Who takes blocks and keeps them touches them as well: that is no growth beside the allocator.
    takers = {site.site.function for site in sites if site.growth > 0 and site.takes is not Takes.FILES}
    others = [each for each in touched if not takers & set(each.site)]
    resident = [sample.resident for sample in counted.samples]
    shared = [each.shared_bytes for each in resident]
    beside_the_heap = [each.held_bytes - each.shared_bytes - taken for each, taken in zip(resident, live, strict=True)]
    return tuple(
        Unseen(
            part.bytes,
            part.name,
            part.meaning,
            resident=part.name not in NOT_RESIDENT,
            reserved=_worth_a_name(_reserved(counted, part.name), part.bytes),
            touched=_worth_a_name(others, part.bytes),
            readings=_since_the_first(shared if part.name == "shared" else beside_the_heap),
        )
        for part in grown.unseen
    )


def _unaccounted(counted: Counted, held: Sequence[int], live: Sequence[int]) -> tuple[Unseen, ...]:
    """Growth that no call explains, where there is no account: of several processes, or of one that has ended.

    At least so much: all that was freed may be held by the allocator. What processes brought that came or went within
    the window is not known.
    """
    known = traced(counted)
    size = held[-1] - held[0] - (live[-1] - live[0]) - max(0, known.overhead) - known.freed
    if size < UNACCOUNTED_BYTES or not counted.window.same_processes:
        return ()
    beside_the_heap = [each - taken for each, taken in zip(held, live, strict=True)]
    return (Unseen(size, "unseen", UNSEEN_MEANING, readings=_since_the_first(beside_the_heap)),)


def _since_the_first(readings: Sequence[int]) -> tuple[int, ...]:
    return tuple(each - readings[0] for each in readings)


def _worth_a_name(touched: Iterable[Touched], size: int) -> tuple[Touched, ...]:
    return tuple(each for each in touched if each.bytes >= WORTH_A_NAME * size)[:SUSPECTS]


def _reserved(counted: Counted, part: str) -> list[Touched]:
    """Who reserved, within the window, the addresses at which a part of the growth lies: exact, not sampled."""
    memory = counted.window.memory_end
    if memory is None or part not in _RESERVED_USES:
        return []
    sizes: defaultdict[CallSite, int] = defaultdict(int)
    for each in counted.window.ranges:
        if each.kind is MappingKind.RESERVED:
            sizes[counted.site_of(each.stack)] += memory.within([(each.start, each.end)], _RESERVED_USES[part])
    return [Touched(site, size) for site, size in sorted(sizes.items(), key=lambda item: -item[1])]


def _sites(counted: Counted) -> list[SiteHistory]:
    window, changes = counted.window, counted.changes
    mapping_stacks = counted.mapping_stacks
    members: defaultdict[tuple[CallSite, bool], list[int]] = defaultdict(list)
    for stack in changes:
        members[counted.site_of(stack), stack in mapping_stacks].append(stack)
    shares = counted.shares
    classes = [counted.older_classes(sample.snapshot) for sample in counted.samples]
    resident = _resident_of(counted)
    survivors = window.survivors
    counts = counted.last.counts
    halfway = counted.samples[(len(counted.samples) - 1) // 2].snapshot.counts

    def shared(stacks: list[int]) -> list[tuple[int, float]]:
        """The size classes of older blocks of which these stacks have a share."""
        return [item for stack in stacks for item in shares.get(stack, {}).items()]

    def outstanding(stacks: list[int]) -> tuple[int, ...]:
        """Bytes at each reading, less older blocks of the same size that were freed."""
        readings = []
        for sample, older in zip(counted.samples, classes, strict=True):
            counts = [sample.snapshot.counts.get(stack, Counts()) for stack in stacks]
            held = sum(each.outstanding_bytes - each.replaced_bytes for each in counts)
            back = sum(share * older.get(size, Freed()).bytes for size, share in shared(stacks))
            readings.append(round(held - back))
        return tuple(each - readings[0] for each in readings)

    def kept(stacks: list[int], thirds: Callable[[Survivors], tuple[int, ...]]) -> tuple[int, int, int]:
        """Bytes that live, by the third in which they were taken."""
        of_each = [thirds(survivors[stack]) for stack in stacks if stack in survivors]
        return sum(each[0] for each in of_each), sum(each[1] for each in of_each), sum(each[2] for each in of_each)

    return [
        SiteHistory(
            site,
            outstanding=outstanding(stacks),
            allocations=sum(changes[stack].allocations for stack in stacks),
            frees=sum(changes[stack].frees for stack in stacks),
            oldest_seconds=max(
                (survivors[stack].oldest_seconds for stack in stacks if stack in survivors), default=0.0
            ),
            older_frees=sum(counted.older_of(stack).frees - changes[stack].replaced for stack in stacks),
            takes=Takes.MAPPINGS if maps else Takes.BLOCKS,
            kept_bytes=sum((thirds := kept(stacks, lambda each: each.third_bytes))[:2]),
            first_bytes=thirds[0],
            fresh_bytes=kept(stacks, lambda each: each.fresh_bytes),
            late_allocations=sum(
                counts.get(stack, Counts()).allocations - halfway.get(stack, Counts()).allocations for stack in stacks
            ),
            replaced=sum(changes[stack].replaced for stack in stacks),
            resident_bytes=sum(resident[stack] for stack in stacks) if maps else 0,
            of_several_sizes=any(_of_several_sizes(changes[stack]) for stack in stacks),
            unshared_bytes=max(counted.unshared_bytes(stack) for stack in stacks),
        )
        for (site, maps), stacks in members.items()
    ]


def _of_several_sizes(counts: Counts) -> bool:
    """True for a stack whose blocks are not all of one size."""
    return counts.outstanding > 1 and bool(counts.outstanding_bytes % counts.outstanding)


def _resident_of(counted: Counted) -> Counter[int]:
    """What is in memory, at the end, of the anonymous mappings that each stack made in the window and kept."""
    memory = counted.window.memory_end
    found: Counter[int] = Counter()
    for each in counted.window.ranges if memory else ():
        if memory and each.kind is MappingKind.MAPPED:
            found[each.stack] += memory.within([(each.start, each.end)], OWN_USES)
        elif memory and each.kind is MappingKind.SHARED:
            found[each.stack] += memory.shared_within([(each.start, each.end)])
    return found


def _file_sites(counted: Counted) -> list[SiteHistory]:
    """Mappings of files by who maps them: only what they come to, for they are no heap."""
    found: defaultdict[CallSite, Counts] = defaultdict(Counts)
    for stack, counts in counted.files().items():
        found[counted.site_of(stack)] += counts
    return [
        SiteHistory(site, (0, counts.outstanding_bytes), counts.allocations, counts.frees, 0.0, takes=Takes.FILES)
        for site, counts in found.items()
    ]
