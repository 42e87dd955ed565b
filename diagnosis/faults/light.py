"""``trace --light``: which code makes a process grow, without probes in it.

No allocator call is probed. Page faults are sampled with their stacks, and resident memory is read from /proc. That
finds the code that touches new memory first, which for a leak is the code that fills what it never frees; it cannot
tell how many blocks there are, nor what was freed and used again.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.base.units import format_duration, format_size
from diagnosis.faults.growth import GrowthSampler
from diagnosis.report.lost import explain_names
from diagnosis.report.report import ResidentMemory, Target
from diagnosis.report.site import call_site
from diagnosis.report.verdict import SAMPLES_PER_WINDOW, SMALLEST_LEAK_BYTES, Verdict, keeps_growing
from diagnosis.target.libc import is_c_runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from diagnosis.faults.growth import TouchedStack
    from diagnosis.report.site import CallSite
    from diagnosis.target.process import Process
    from diagnosis.target.symbols import Symbolizer


@dataclass(frozen=True)
class LightReport:
    """One window of sampling: estimated bytes by stack, beside the growth that the kernel counted."""

    target: Target
    window_seconds: float
    stacks: tuple[TouchedStack, ...]
    truth: ResidentMemory
    notes: tuple[str, ...]
    verdict: Verdict

    def to_json(self) -> str:
        """The report as JSON, with a line end."""
        return json.dumps(asdict(self), indent=2) + "\n"


def sample(process: Process, symbolizer: Symbolizer, seconds: float, pause: Callable[[float], bool]) -> LightReport:
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
    anonymous = [each.anonymous_bytes for each in resident]
    verdict = _judge(stacks, [size - anonymous[0] for size in anonymous], took)
    return LightReport(Target(process.pid, process.command), took, stacks, truth, notes, verdict)


def _judge(stacks: tuple[TouchedStack, ...], growth: list[int], seconds: float) -> Verdict:
    grew = f"its own memory changed by {format_size(growth[-1])} in {format_duration(seconds)}"
    if growth[-1] < SMALLEST_LEAK_BYTES or not keeps_growing(growth):
        return Verdict(leak=False, function="", caller="", summary=f"No growth found: {grew}, and not steadily.")
    if not stacks or not stacks[0].frames:
        raise LabError(f"{grew}, and not one page fault of it was sampled", "sample for longer: --duration 5m")
    # The cause is not memset and the like, but the first function of the program's own.
    worst = stacks[0]
    own = _own_site(worst)
    return Verdict(
        leak=True,
        function=own.function,
        caller=own.caller,
        summary=(
            f"SUSPECT: {grew}, steadily; {own.function}, called from {own.caller or 'an unknown place'}, touched"
            f" {format_size(worst.touched_bytes)} of new memory"
            f" (± {format_size(worst.error_bytes)}, {worst.samples:,} samples)."
            f" To be exact, and to see what is freed: trace without --light"
        ),
    )


def _own_site(stack: TouchedStack) -> CallSite:
    """The first function outside the C library and its caller, or the first two at all."""
    own = [frame for frame in stack.frames if not is_c_runtime(frame.module)]
    return call_site(own or stack.frames)
