"""The report of one traced window: what each call stack allocated and kept, resident memory, and the verdict."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.report.lost import UNCOUNTED, count_lost, explain_lost
from diagnosis.report.site import call_site
from diagnosis.report.verdict import SiteHistory, judge
from diagnosis.trace.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diagnosis.report.site import CallSite
    from diagnosis.report.verdict import Verdict
    from diagnosis.target.symbols import Frame, SymbolizedStack, Symbolizer
    from diagnosis.trace.tracer import Snapshot, Tracer
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
    the bytes taken that were not given back, ``share_of_resident_growth`` is None where resident memory did not grow.
    """

    frames: tuple[Frame, ...]
    broken: bool
    outstanding_bytes: int
    allocations: int
    frees: int
    leak_ratio: float
    bytes_per_minute: float
    oldest_seconds: float
    share_of_resident_growth: float | None


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

    ``lost`` counts what is missing from the numbers or from the stacks, by kind; ``notes`` says each in a line, with a
    remedy.
    """

    target: Target
    window_seconds: float
    stacks: tuple[StackReport, ...]
    truth: ResidentMemory
    lost: Mapping[str, int]
    notes: tuple[str, ...]
    verdict: Verdict

    def outstanding_of(self, function: str) -> Counts:
        """What the stacks whose innermost function this is hold together."""
        total = Counts()
        for stack in self.stacks:
            if stack.frames and stack.frames[0].name == function:
                # Bytes are kept as a difference: what was given back of them is not asked for.
                total = total + Counts(stack.allocations, stack.outstanding_bytes, stack.frees, 0)
        return total


def build_report(tracer: Tracer, window: Window, symbolizer: Symbolizer) -> Report:
    """Add symbols to the addresses and a verdict to the numbers. The process should still run, for its symbols."""
    first, last = window.samples[0], window.samples[-1]
    changes = last.snapshot.since(first.snapshot)
    symbolized = {stack: symbolizer.symbolize(tracer.frames(stack), tracer.ending(stack)) for stack in changes}
    truth = ResidentMemory(
        first.resident.total_bytes,
        last.resident.total_bytes,
        first.resident.anonymous_bytes,
        last.resident.anonymous_bytes,
    )
    stacks = [_stack(symbolized[stack], counts, window, stack, truth) for stack, counts in changes.items()]
    names = symbolizer.lost_names()
    lost = count_lost(window, changes, symbolized, names)
    return Report(
        target=Target(tracer.process.pid, tracer.process.command),
        window_seconds=window.seconds,
        stacks=tuple(sorted(stacks, key=lambda stack: (-stack.outstanding_bytes, -stack.allocations))),
        truth=truth,
        lost=lost,
        notes=(
            *explain_lost(lost, window, names),
            *tracer.notes,
            *(line for allocator in tracer.allocators for line in allocator.blind_spots),
        ),
        verdict=judge(
            _sites(changes, symbolized, window),
            window_seconds=window.seconds,
            resident_growth=truth.growth,
            lost=sum(lost[kind] for kind in UNCOUNTED),
        ),
    )


def _stack(
    symbolized: SymbolizedStack, counts: Counts, window: Window, stack: int, truth: ResidentMemory
) -> StackReport:
    survivors = window.survivors.get(stack)
    outstanding = counts.outstanding_bytes
    return StackReport(
        frames=symbolized.frames,
        broken=symbolized.cut_short,
        outstanding_bytes=outstanding,
        allocations=counts.allocations,
        frees=counts.frees,
        leak_ratio=max(0.0, outstanding / counts.allocated_bytes) if counts.allocated_bytes else 0.0,
        bytes_per_minute=outstanding / window.seconds * 60,
        oldest_seconds=survivors.oldest_seconds if survivors else 0.0,
        share_of_resident_growth=outstanding / truth.growth if truth.growth > 0 else None,
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
