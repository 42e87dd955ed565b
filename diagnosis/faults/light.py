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

from diagnosis.base.errors import LabError
from diagnosis.base.units import format_duration, format_size
from diagnosis.faults.growth import GrowthSampler
from diagnosis.report.lost import explain_names
from diagnosis.report.report import ResidentMemory, Target
from diagnosis.report.site import call_site
from diagnosis.report.summary import Verdict
from diagnosis.report.trend import OPEN, Trend, trend
from diagnosis.report.unseen import Touched
from diagnosis.report.verdict import SAMPLES_PER_WINDOW, SMALLEST_LEAK_BYTES, Answer
from diagnosis.report.wrappers import first_own, takes_for_its_caller

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from diagnosis.faults.growth import TouchedStack
    from diagnosis.report.site import CallSite
    from diagnosis.target.process import Process
    from diagnosis.target.symbols import Symbolizer
    from diagnosis.trace.measured import Names


@dataclass(frozen=True)
class LightReport:
    """One window of sampling: estimated bytes by stack, beside the growth that the kernel counted."""

    target: Target
    window_seconds: float
    stacks: tuple[TouchedStack, ...]
    truth: ResidentMemory
    notes: tuple[str, ...]
    verdict: Verdict


def sample(
    process: Process,
    symbolizer: Symbolizer,
    seconds: float,
    pause: Callable[[float], bool],
    *,
    smallest: int = SMALLEST_LEAK_BYTES,
) -> LightReport:
    """Sample one process for a while.

    Raises:
        LabError: it ended, or page faults cannot be sampled.
    """
    with ExitStack() as stack:
        sampler = GrowthSampler(process.pid)
        stack.callback(sampler.close)
        symbolizer.refresh()
        began = time.monotonic()
        resident = [process.resident()]
        for look in range(1, SAMPLES_PER_WINDOW + 1):
            going_on = pause(max(0.0, began + seconds * look / SAMPLES_PER_WINDOW - time.monotonic()))
            resident.append(process.resident())
            symbolizer.refresh()
            if not going_on:
                break
        window = sampler.read()
        took = time.monotonic() - began
    stacks = tuple(window.stacks_of(process.pid, symbolizer))
    notes = tuple(explain_names(symbolizer.lost_names()))
    truth = ResidentMemory(
        resident[0].total_bytes, resident[-1].total_bytes, resident[0].anonymous_bytes, resident[-1].anonymous_bytes
    )
    held = [each.held_bytes for each in resident]
    verdict = _judge(stacks, [size - held[0] for size in held], took, smallest)
    return LightReport(Target(process.pid, process.command), took, stacks, truth, notes, verdict)


def _judge(stacks: tuple[TouchedStack, ...], growth: list[int], seconds: float, smallest: int) -> Verdict:
    grew = f"its own memory changed by {format_size(growth[-1])} in {format_duration(seconds)}"
    shape = trend(growth)
    if growth[-1] < smallest or shape not in OPEN:
        return Verdict(Answer.NO_LEAK, "", "", f"No growth found: {grew}, and it does not go on.")
    if not stacks or not stacks[0].frames:
        raise LabError(f"{grew}, and not one page fault of it was sampled", "sample for longer: --duration 5m")
    # The cause is not memset and the like, but the first function of the program's own.
    worst = stacks[0]
    own = call_site(worst.frames)
    steadily = ", steadily" if shape is Trend.STEADY else ""
    decides = "trace without --light: it is exact, and sees what is freed"
    return Verdict(
        Answer.GROWING,
        own.function,
        own.caller,
        f"GROWING: {grew}{steadily}; {own.function}, called from {own.caller or 'an unknown place'}, touched"
        f" {format_size(worst.touched_bytes)} of new memory"
        f" (± {format_size(worst.error_bytes)}, {worst.samples:,} samples). What decides: {decides}.",
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
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._sampler: GrowthSampler | None = None

    def __enter__(self) -> Self:
        with contextlib.suppress(LabError):  # the trace does without: its account then says whom to ask
            self._sampler = GrowthSampler(self._pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sampler:
            self._sampler.close()

    def touched(self, symbolizer: Names) -> list[Touched]:
        """Who touched new memory since the start, most first."""
        if not self._sampler:
            return []
        return touched_sites(tuple(self._sampler.read().stacks_of(self._pid, symbolizer)))
