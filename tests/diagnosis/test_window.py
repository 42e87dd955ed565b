from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest

from diagnosis.base.errors import LabError
from diagnosis.report.verdict import SAMPLES_PER_WINDOW
from diagnosis.target.memory import TooManyMappingsError
from diagnosis.target.process import Process, Resident
from diagnosis.trace import window as windows
from diagnosis.trace.window import Ending, measure
from tests.diagnosis.traced import BASE, MadeProcess, MadeSymbolizer, MadeTracer

if TYPE_CHECKING:
    from collections.abc import Callable

    from diagnosis.target.memory import Memory
    from diagnosis.trace.window import Sample, Window

SECONDS = 10.0


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> MadeTracer:
    """A tracer whose clock is the window's."""
    made = MadeTracer()
    monkeypatch.setattr(windows, "time", made.clock)
    return made


class Pause:
    """Waits on a tracer's clock, and after a number of times says that it is enough."""

    def __init__(self, tracer: MadeTracer, times: int = 1_000_000) -> None:
        self._tracer, self._times = tracer, times
        self.asked: list[float] = []

    def __call__(self, seconds: float) -> bool:
        self.asked.append(seconds)
        self._tracer.clock.wait(seconds)
        return len(self.asked) < self._times


def watch(tracer: Any, seconds: float | None = SECONDS, **options: Any) -> Window:  # noqa: ANN401 - stand-ins
    symbolizer: Any = MadeSymbolizer()
    measured = measure(
        tracer, symbolizer, seconds, **{"sample_count": SAMPLES_PER_WINDOW, "pause": tracer.clock.wait, **options}
    )
    assert symbolizer.refreshed, "files are held open while the process runs"
    return measured


def test_a_window_is_as_long_as_asked_and_has_more_samples_than_a_verdict_needs(tracer: MadeTracer) -> None:
    window = watch(tracer)
    assert window.ending is Ending.COMPLETE
    assert window.seconds == pytest.approx(SECONDS, rel=0.01)
    assert window.seconds >= SECONDS
    assert SAMPLES_PER_WINDOW <= len(window.samples) <= SAMPLES_PER_WINDOW + 2
    assert window.samples[0].resident == Resident(BASE, 0), "memory is read before the counts"
    assert tracer.asked_since == window.samples[0].snapshot
    assert [sample.snapshot.counts[1].allocations for sample in window.samples] == list(
        range(1, len(window.samples) + 1)
    )


def test_samples_are_spread_over_the_window(tracer: MadeTracer) -> None:
    pause = Pause(tracer)
    watch(tracer, pause=pause)
    assert max(pause.asked) <= SECONDS / SAMPLES_PER_WINDOW


def test_a_window_can_be_stopped(tracer: MadeTracer) -> None:
    window = watch(tracer, 3600.0, pause=Pause(tracer, 1))
    assert window.ending is Ending.STOPPED
    assert len(window.samples) == 2


def test_an_open_window_keeps_a_bounded_number_of_samples(tracer: MadeTracer) -> None:
    window = watch(tracer, None, pause=Pause(tracer, 20 * SAMPLES_PER_WINDOW))
    assert window.ending is Ending.STOPPED
    allocations = [sample.snapshot.counts[1].allocations for sample in window.samples]
    assert SAMPLES_PER_WINDOW <= len(allocations) <= 2 * SAMPLES_PER_WINDOW + 1
    assert allocations[0] == 1, "all else is counted from the first one"
    assert allocations[-1] > 2 * SAMPLES_PER_WINDOW + 1, "the others were dropped"
    times = [sample.snapshot.seconds for sample in window.samples[:-1]]  # the last one came when it was stopped
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(gaps) < 2.1 * min(gaps), "they are spread over all of it"


def test_a_process_that_ends_ends_the_window_with_what_the_kernel_still_knows(
    tracer: MadeTracer,
) -> None:
    tracer.process = MadeProcess(programs=lambda looks: ("first",) if looks < 5 else ())
    window = watch(tracer, 3600.0)
    assert window.ending is Ending.EXITED
    assert window.samples[-1].snapshot.counts[1].allocations == 6
    assert window.samples[-1].resident == window.samples[-2].resident


def test_the_end_of_a_process_is_seen_at_once_however_long_it_was_traced(tracer: MadeTracer) -> None:
    ends_at = tracer.clock.now + 20_000.0
    tracer.process = MadeProcess(programs=lambda _: ("first",) if tracer.clock.now < ends_at else ())
    window = watch(tracer, None)
    assert window.ending is Ending.EXITED
    assert ends_at <= window.samples[-1].snapshot.seconds < ends_at + 2.0


def test_a_process_that_becomes_another_program_ends_the_window_before_it(
    tracer: MadeTracer,
) -> None:
    tracer.process = MadeProcess(programs=lambda looks: ("first",) if looks < 5 else ("second",))
    window = watch(tracer, 3600.0)
    assert window.ending is Ending.EXECED
    assert window.samples[-1].snapshot.counts[1].allocations == 4, "the fifth sample can be of either program"


def test_a_process_that_has_given_up_its_memory_and_is_not_gone_yet_has_ended(tracer: MadeTracer) -> None:
    class Leaving(MadeProcess):
        def alive(self) -> bool:
            return True

    tracer.process = Leaving(programs=lambda looks: ("first",) if looks < 5 else ())
    assert watch(tracer, 3600.0).ending is Ending.EXITED


def test_a_process_that_becomes_another_program_at_once_has_no_window(
    tracer: MadeTracer,
) -> None:
    tracer.process = MadeProcess(programs=lambda looks: ("first",) if looks < 1 else ("second",))
    with pytest.raises(LabError, match="became another program at once"):
        watch(tracer, 3600.0)


def test_the_children_of_the_process_are_known(tracer: MadeTracer) -> None:
    tracer.process = MadeProcess(started=(4712, 4713))
    assert watch(tracer).children == (4712, 4713)


def test_the_samples_at_both_ends_are_taken_as_the_caller_aligns_them(tracer: MadeTracer) -> None:
    aligned: list[Sample] = []

    def align(take: Callable[[], Sample]) -> Sample:
        take()  # at a moment that will not do
        aligned.append(take())
        return aligned[-1]

    window = watch(tracer, align=align)
    assert [window.samples[0], window.samples[-1]] == aligned


def test_a_process_that_ends_is_not_aligned_at_its_end(tracer: MadeTracer) -> None:
    tracer.process = MadeProcess(programs=lambda looks: ("first",) if looks < 5 else ())
    aligned: list[Sample] = []

    def align(take: Callable[[], Sample]) -> Sample:
        aligned.append(take())
        return aligned[-1]

    assert watch(tracer, 3600.0, align=align).samples[0] == aligned[0]
    assert len(aligned) == 1


def test_whatever_a_pause_raises_ends_the_window(tracer: MadeTracer) -> None:
    def interrupt(_: float) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(tracer, pause=interrupt)


def test_why_memory_was_not_read_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, _: object) -> Memory:
        raise TooManyMappingsError(f"pid {pid} has a million")

    monkeypatch.setattr(windows, "read_memory", refuse)
    memories = windows._Memories(Process(os.getpid()))
    memories.begin()
    memories.finish()
    assert (memories.start, memories.end, memories.unread) == (None, None, f"pid {os.getpid()} has a million")
