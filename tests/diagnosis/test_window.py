from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from diagnosis.base.errors import LabError
from diagnosis.lab.ledger import parse
from diagnosis.report.verdict import SAMPLES
from diagnosis.target.process import Resident
from diagnosis.trace import window as windows
from diagnosis.trace.window import SAMPLES_PER_WINDOW, Ending, measure
from tests.diagnosis.test_ledger import BODY
from tests.diagnosis.traced import BASE, MIB, MadeProcess, MadeSymbolizer, MadeTracer

if TYPE_CHECKING:
    from diagnosis.lab.ledger import Reading
    from diagnosis.trace.window import Window

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
    measured = measure(tracer, symbolizer, seconds, **{"pause": tracer.clock.wait, **options})
    assert symbolizer.refreshed, "files are held open while the process runs"
    return measured


def test_a_window_is_as_long_as_asked_and_has_more_samples_than_a_verdict_needs(tracer: MadeTracer) -> None:
    window = watch(tracer)
    assert window.ending is Ending.COMPLETE
    assert window.seconds == pytest.approx(SECONDS, rel=0.01)
    assert window.seconds >= SECONDS
    assert 2 * SAMPLES <= len(window.samples) <= 2 * SAMPLES + 2
    assert window.samples[0].resident == Resident(BASE + MIB, MIB)
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
    assert SAMPLES <= len(allocations) <= 2 * SAMPLES_PER_WINDOW + 1
    assert allocations[0] == 1, "all else is counted from the first one"
    assert allocations[-1] == 20 * SAMPLES_PER_WINDOW + 1
    times = [sample.snapshot.seconds for sample in window.samples]
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


def test_a_process_that_becomes_another_program_ends_the_window_before_it(
    tracer: MadeTracer,
) -> None:
    tracer.process = MadeProcess(programs=lambda looks: ("first",) if looks < 5 else ("second",))
    window = watch(tracer, 3600.0)
    assert window.ending is Ending.EXECED
    assert window.samples[-1].snapshot.counts[1].allocations == 5


def test_a_process_that_becomes_another_program_at_once_has_no_window(
    tracer: MadeTracer,
) -> None:
    tracer.process = MadeProcess(programs=lambda looks: ("first",) if looks < 1 else ("second",))
    with pytest.raises(LabError, match="became another program at once"):
        watch(tracer, 3600.0)


def test_the_children_of_the_process_are_known(tracer: MadeTracer) -> None:
    tracer.process = MadeProcess(started=(4712, 4713))
    assert watch(tracer).children == (4712, 4713)


class MadeLedger:
    """Counts with the tracer: one insert a look, in silence ever since."""

    def __init__(self, tracer: MadeTracer) -> None:
        self._tracer = tracer

    def read(self) -> Reading:
        looks = self._tracer.process.looks
        quiet = {"since_ns": 0, "until_ns": 1 << 62, "inserts": looks, "insert_bytes": looks * MIB}
        return parse({**BODY, "quiet_intervals": [quiet]})


def test_both_ends_are_aligned_with_a_ledger(tracer: MadeTracer) -> None:
    window = watch(tracer, ledger=MadeLedger(tracer))
    assert window.ledger_start
    assert window.ledger_end
    assert window.ledger_start.inserts == window.samples[0].snapshot.counts[1].allocations
    assert window.ledger_end.inserts == window.samples[-1].snapshot.counts[1].allocations


def test_whatever_a_pause_raises_ends_the_window(tracer: MadeTracer) -> None:
    def interrupt(_: float) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(tracer, pause=interrupt)
