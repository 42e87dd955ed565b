"""``trace --light``: which code makes a process grow, without probes in it.

No allocator call is probed. Page faults are sampled with their stacks, and resident memory is read from /proc. That
finds the code that touches new memory first, which for a leak is the code that fills what it never frees; it cannot
tell how many blocks there are, nor what was freed and used again.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from heap_trace import UnwindMode
from heap_trace.page_faults import FAULT_MAX_FRAMES

from diagnosis.base.errors import LabError
from diagnosis.base.units import format_count, format_duration, format_size
from diagnosis.faults.growth import GrowthSampler
from diagnosis.report.lost import explain_cut_short, explain_names
from diagnosis.report.phrases import given_back
from diagnosis.report.report import ResidentMemory, Target
from diagnosis.report.site import call_site
from diagnosis.report.summary import Verdict
from diagnosis.report.trend import OPEN, Trend, trend
from diagnosis.report.unseen import Touched
from diagnosis.report.verdict import SAMPLES_PER_WINDOW, SMALLEST_LEAK_BYTES, Answer
from diagnosis.report.wrappers import first_own, takes_for_its_caller
from diagnosis.target.unwinding import ProcessTables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from diagnosis.faults.growth import TouchedStack
    from diagnosis.report.site import CallSite
    from diagnosis.target.process import Process
    from diagnosis.target.symbols import Symbolizer
    from diagnosis.trace.measured import Names

# How often what is mapped is compared with the unwind tables.
REFRESH_SECONDS = 0.1


@dataclass(frozen=True)
class LightReport:
    """One window of sampling: estimated bytes by stack, beside the growth that the kernel counted.

    ``lost`` counts the samples without room, without a stack, and those whose stack is not whole, by kind.
    """

    target: Target
    window_seconds: float
    stacks: tuple[TouchedStack, ...]
    truth: ResidentMemory
    lost: Mapping[str, int]
    notes: tuple[str, ...]
    verdict: Verdict


def sample(
    process: Process,
    symbolizer: Symbolizer,
    seconds: float,
    pause: Callable[[float], bool],
    *,
    smallest: int = SMALLEST_LEAK_BYTES,
    unwind: UnwindMode = UnwindMode.ON,
) -> LightReport:
    """Sample one process for a while. ``pause`` waits for seconds, and is False where sampling is to end.

    Raises:
        LabError: it ended, or page faults cannot be sampled.
    """
    with ExitStack() as stack:
        tables = None if unwind is UnwindMode.OFF else ProcessTables(process)
        sampler = GrowthSampler(process.pid, tables=tables)
        stack.callback(sampler.close)
        symbolizer.refresh()
        began = time.monotonic()
        resident = [process.resident()]
        for look in range(1, SAMPLES_PER_WINDOW + 1):
            going_on = _wait(began + seconds * look / SAMPLES_PER_WINDOW, pause, tables)
            resident.append(process.resident())
            symbolizer.refresh()
            if not going_on:
                break
        window = sampler.read()
        took = time.monotonic() - began
    stacks = tuple(window.stacks_of(process.pid, symbolizer))
    lost = window.lost_of(process.pid, symbolizer)
    notes = (*sampler.notes, *_explain_lost(lost), *explain_names(symbolizer.lost_names()))
    truth = ResidentMemory(
        resident[0].total_bytes, resident[-1].total_bytes, resident[0].anonymous_bytes, resident[-1].anonymous_bytes
    )
    held = [each.held_bytes for each in resident]
    verdict = judge_growth(stacks, [size - held[0] for size in held], took, smallest)
    return LightReport(Target(process.pid, process.command), took, stacks, truth, lost, notes, verdict)


def _wait(until: float, pause: Callable[[float], bool], tables: ProcessTables | None) -> bool:
    """Wait for a time of the monotonic clock, and keep the tables as the process's mappings are meanwhile."""
    while True:
        left = max(0.0, until - time.monotonic())
        going_on = pause(min(left, REFRESH_SECONDS))
        if tables:
            tables.refresh()
        if not going_on or left <= REFRESH_SECONDS:
            return going_on


def _explain_lost(lost: Mapping[str, int]) -> Iterator[str]:
    if count := lost["samples"]:
        yield f"{count:,} samples found no room: the table is full. Sample for a shorter time."
    if count := lost["stack"]:
        yield f"{count:,} samples are without their stack, which could not be taken or kept."
    yield from explain_cut_short(lost, "samples", str(FAULT_MAX_FRAMES))


def judge_growth(stacks: tuple[TouchedStack, ...], growth: list[int], seconds: float, smallest: int) -> Verdict:
    """What samples and the kernel's figures say together.

    Args:
        stacks: who touched new memory, most first.
        growth: what the process holds at the readings, in bytes, less that at the first.
        seconds: how long it was sampled.
        smallest: growth in bytes that is worth a name.

    Raises:
        LabError: it grew, and no sample says who touched new memory.
    """
    grew = f"its own memory changed by {format_size(growth[-1])} in {format_duration(seconds)}"
    shape = trend(growth)
    if shape not in OPEN:
        return Verdict(Answer.NO_LEAK, "", "", f"No growth found: {grew}, and it does not go on.")
    if growth[-1] < smallest:
        less = f"less than the {format_size(smallest)} that are worth a name: sample for longer"
        return Verdict(Answer.NO_LEAK, "", "", f"No growth found: {grew}, {less}.")
    worst = next((stack for stack in stacks if stack.frames), None)
    if worst is None:
        raise LabError(f"{grew}, and not one page fault of it was sampled", "sample for longer: --duration 5m")
    # The cause is not memset and the like, but the first function of the program's own.
    own = call_site(worst.frames)
    steadily = ", steadily" if shape is Trend.STEADY else ""
    decides = "trace without --light: it is exact, and sees what is freed"
    return Verdict(
        Answer.GROWING,
        own.function,
        own.caller,
        f"GROWING: {grew}{steadily}; {own.function}, called from {own.caller or 'an unknown place'}, touched"
        f" {format_size(worst.touched_bytes)} of new memory"
        f" (± {format_size(worst.error_bytes)}, {format_count(worst.samples, 'sample')}"
        f"{given_back(worst.touched_bytes, growth[-1])}). What decides: {decides}.",
        decides,
    )


def touched_sites(stacks: tuple[TouchedStack, ...]) -> list[Touched]:
    """The call sites under which memory became resident, most first, where they are not an allocator's."""
    sizes: defaultdict[CallSite, float] = defaultdict(float)
    for stack in stacks:
        if stack.frames and not takes_for_its_caller(stack.frames[first_own(stack.frames)]):
            sizes[call_site(stack.frames)] += stack.touched_bytes
    return [Touched(site, size) for site, size in sorted(sizes.items(), key=lambda item: -item[1])]


class FaultsBeside:
    """Samples page faults beside an exact trace, where the kernel lets it: it costs the process nothing measurable.

    Use it as a context manager.

    Args:
        process: is traced.
        unwind: how its stacks are taken: by tables of the samples' own, or by frame pointers.
    """

    def __init__(self, process: Process, unwind: UnwindMode = UnwindMode.ON) -> None:
        self._process, self._unwind = process, unwind
        self._tables: ProcessTables | None = None
        self._sampler: GrowthSampler | None = None

    def __enter__(self) -> Self:
        with contextlib.suppress(LabError):  # the trace does without: its account then says whom to ask
            self._tables = None if self._unwind is UnwindMode.OFF else ProcessTables(self._process)
            self._sampler = GrowthSampler(self._process.pid, tables=self._tables)
        return self

    def refresh(self) -> None:
        """Keep the tables as the process's mappings are. Costs nothing where nothing is new."""
        if self._tables:
            with contextlib.suppress(LabError):  # it has ended: what was sampled is kept
                self._tables.refresh()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sampler:
            self._sampler.close()

    def touched(self, symbolizer: Names) -> list[Touched]:
        """Who touched new memory since the start, most first."""
        if not self._sampler:
            return []
        return touched_sites(tuple(self._sampler.read().stacks_of(self._process.pid, symbolizer)))
