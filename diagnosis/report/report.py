"""The report of one traced window: what was taken and kept, by whom, where memory went, and the verdict."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from diagnosis.report.account import account
from diagnosis.report.counted import Counted
from diagnosis.report.evidence import gather, traced
from diagnosis.report.group_account import account_of_group
from diagnosis.report.lost import UNCOUNTED, count_lost, explain_lost
from diagnosis.report.names import explain_site, name_keeper, say_others
from diagnosis.report.rounding import blocks_of
from diagnosis.report.site import call_site
from diagnosis.report.summary import summarize
from diagnosis.report.timeline import timeline
from diagnosis.report.verdict import SMALLEST_LEAK_BYTES, find
from diagnosis.report.written_files import with_written_files
from diagnosis.trace.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from diagnosis.report.account import Account
    from diagnosis.report.site import CallSite
    from diagnosis.report.summary import Verdict
    from diagnosis.report.timeline import TimelinePoint
    from diagnosis.report.unseen import Touched
    from diagnosis.target.symbols import Frame, SymbolizedStack
    from diagnosis.trace.measured import Measured, Names
    from diagnosis.trace.window import Window


@dataclass(frozen=True)
class Target:
    """The traced process."""

    pid: int
    command: str


@dataclass(frozen=True)
class StackReport:
    """One call stack over the window, frames innermost first.

    ``broken`` says that the frames end early: code in between keeps no frame pointer. ``leak_ratio`` is the share of
    the bytes taken that were not given back and ``leak_ratio_blocks`` that of the blocks, ``share_of_resident_growth``
    is None where resident memory did not grow. Blocks that were freed and come from before the window are not in these
    numbers: ``outstanding_bytes`` is never below zero. ``older_frees`` and ``older_bytes`` are this stack's share of
    those of its size.
    """

    frames: tuple[Frame, ...]
    broken: bool
    outstanding_bytes: int
    allocations: int
    allocated_bytes: int
    frees: int
    leak_ratio: float
    leak_ratio_blocks: float
    bytes_per_minute: float
    oldest_seconds: float
    share_of_resident_growth: float | None
    older_frees: int = 0
    older_bytes: int = 0

    @property
    def kept_bytes(self) -> int:
        """What the stack took in the window and keeps, less its share of what was freed of before: never below 0."""
        return max(0, self.outstanding_bytes - self.older_bytes)


@dataclass(frozen=True)
class ResidentMemory:
    """Resident memory of the process at both ends of the window, as the kernel counts it, in bytes."""

    resident_bytes_start: int
    resident_bytes_end: int
    anonymous_bytes_start: int
    anonymous_bytes_end: int

    @property
    def growth(self) -> int:
        """By how many bytes resident memory grew."""
        return self.resident_bytes_end - self.resident_bytes_start


@dataclass(frozen=True)
class Report:
    """Everything known about one traced window.

    ``account`` is None where the process ended within the window. ``lost`` counts what is missing from the numbers or
    from the stacks, by kind; ``notes`` says each in a line, with a remedy.
    ``timeline`` has the readings.
    """

    target: Target
    window_seconds: float
    readings: int
    stacks: tuple[StackReport, ...]
    truth: ResidentMemory
    account: Account | None
    lost: Mapping[str, int]
    notes: tuple[str, ...]
    verdict: Verdict
    timeline: tuple[TimelinePoint, ...] = ()

    def outstanding_of(self, function: str) -> Counts:
        """What the stacks whose innermost function this is hold together."""
        total = Counts()
        for stack in self.stacks:
            if stack.frames and stack.frames[0].name == function:
                # Bytes are kept as a difference: what was given back of them is not asked for.
                total = total + Counts(stack.allocations, stack.outstanding_bytes, stack.frees, 0)
        return total


def build_report(
    tracer: Measured,
    window: Window,
    symbolizer: Names,
    *,
    touched: Sequence[Touched] = (),
    smallest: int = SMALLEST_LEAK_BYTES,
    left_out: int = 0,
) -> Report:
    """Put names to addresses, and a verdict to the numbers. The traced process should still run, for its symbols.

    Args:
        tracer: what traced it.
        window: what was measured.
        symbolizer: names its stacks.
        touched: the code that touched new memory in the window, most first, where page faults were sampled.
        smallest: growth in bytes that is worth a name.
        left_out: blocks of fewer bytes were not counted.
    """
    window = with_written_files(window)
    first, last = window.samples[0], window.samples[-1]
    changes = last.snapshot.since(first.snapshot)

    def symbolize(stack: int) -> SymbolizedStack:
        return symbolizer.symbolize(tracer.frames(stack), tracer.ending(stack), tracer.python(stack))

    symbolized = {stack: symbolize(stack) for stack in changes}

    def site_of(stack: int) -> CallSite:
        return call_site((symbolized.get(stack) or symbolize(stack)).frames)

    truth = ResidentMemory(
        first.resident.total_bytes,
        last.resident.total_bytes,
        first.resident.anonymous_bytes,
        last.resident.anonymous_bytes,
    )
    names = symbolizer.lost_names()
    lost = count_lost(window, changes, symbolized, names)
    uncounted = sum(lost[kind] for kind in UNCOUNTED)
    counted = Counted(window, changes, cache(site_of), uncounted, blocks_of(tracer.allocators), left_out)
    grown = None
    if window.footprints:
        grown = account_of_group(window.footprints, counted)
    elif window.memory_start and window.memory_end:
        grown = account(window.memory_start, window.memory_end, traced(counted))
    evidence = gather(counted, grown, touched)
    stacks = [_stack(symbolized[members[0]], counted, members, truth) for members in _alike(symbolized)]
    verdict = name_keeper(summarize(find(evidence, smallest), evidence, grown), stacks)
    verdict = say_others(verdict, symbolized.values())
    return Report(
        target=Target(tracer.process.pid, tracer.process.command),
        window_seconds=window.seconds,
        readings=len(window.samples),
        stacks=tuple(sorted(stacks, key=lambda stack: (-stack.outstanding_bytes, -stack.allocations))),
        truth=truth,
        account=grown,
        lost=lost,
        notes=(
            *explain_lost(lost, window, names),
            *([f"What the memory is used for is not told: {window.unread}."] if window.unread else []),
            *explain_site(verdict, stacks),
            *(line for allocator in tracer.allocators for line in allocator.blind_spots),
            *tracer.notes,
        ),
        verdict=verdict,
        timeline=timeline(window),
    )


def _alike(symbolized: Mapping[int, SymbolizedStack]) -> Iterable[list[int]]:
    """Stacks by what a reader sees of them: two calls on one line of the source are one place."""
    groups: defaultdict[object, list[int]] = defaultdict(list)
    for stack, found in symbolized.items():
        seen = tuple((frame.name, frame.module, frame.file, frame.line) for frame in found.frames)
        groups[seen, found.cut_short].append(stack)
    return groups.values()


def _stack(symbolized: SymbolizedStack, counted: Counted, members: Sequence[int], truth: ResidentMemory) -> StackReport:
    window = counted.window
    counts = sum((counted.changes[stack] for stack in members), start=Counts())
    older = [counted.older_of(stack) for stack in members]
    survivors = [window.survivors[stack] for stack in members if stack in window.survivors]
    outstanding = max(0, counts.outstanding_bytes)
    return StackReport(
        frames=symbolized.frames,
        broken=symbolized.cut_short,
        outstanding_bytes=outstanding,
        allocations=counts.allocations,
        allocated_bytes=counts.allocated_bytes,
        frees=counts.frees,
        leak_ratio=outstanding / counts.allocated_bytes if counts.allocated_bytes else 0.0,
        leak_ratio_blocks=max(0, counts.outstanding) / counts.allocations if counts.allocations else 0.0,
        bytes_per_minute=outstanding / window.seconds * 60,
        oldest_seconds=max((each.oldest_seconds for each in survivors), default=0.0),
        share_of_resident_growth=outstanding / truth.growth if truth.growth > 0 else None,
        older_frees=sum(each.frees for each in older),
        older_bytes=sum(each.bytes for each in older),
    )
