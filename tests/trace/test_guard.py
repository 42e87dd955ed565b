"""The tracer gets its turn, and its probes are detached when they must be."""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.symbols import Symbolizer
from diagnosis.trace.guard import (
    CHECK_SECONDS,
    GRACE_SECONDS,
    HIGHEST_NICENESS,
    PAUSED_LOOKS,
    Watchdog,
    raised_priority,
)
from diagnosis.trace.window import ALIGNED_SECONDS, measure
from tests.support.waiting import wait_until
from tests.trace.tracing import NO_DEBUG_FILES, Target, count

if TYPE_CHECKING:
    from collections.abc import Callable

    from diagnosis.trace.window import Sample
    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing

LATE_SECONDS = GRACE_SECONDS + ALIGNED_SECONDS + 1


@pytest.mark.root
def test_the_priority_is_raised_and_put_back() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with raised_priority():
        assert os.getpriority(os.PRIO_PROCESS, 0) == HIGHEST_NICENESS
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_after_the_deadline_the_probes_are_detached_once() -> None:
    detached: list[float] = []
    watchdog = Watchdog(lambda: detached.append(time.monotonic()), lambda: 0, None)
    watchdog.start()
    deadline = time.monotonic() - GRACE_SECONDS
    watchdog.set_deadline(deadline)
    wait_until(lambda: bool(detached), "the watchdog detaches")
    watchdog.close()
    assert len(detached) == 1
    assert "the tracer did not get its turn" in watchdog.reason


def test_after_a_pause_of_the_whole_machine_the_window_has_one_more_turn() -> None:
    detached: list[float] = []
    paused = time.monotonic() + 3600
    calls = itertools.count()

    def stand_still() -> int:
        """While it looks for the first time, so long that the deadline has passed when it looks again."""
        nonlocal paused
        if not next(calls):
            time.sleep((PAUSED_LOOKS + 1) * CHECK_SECONDS)
            watchdog.set_deadline(time.monotonic() - GRACE_SECONDS)
            paused = time.monotonic()
        return 0

    watchdog = Watchdog(lambda: detached.append(time.monotonic()), stand_still, 1e9)
    watchdog.start()
    wait_until(lambda: bool(detached), "the watchdog detaches")
    watchdog.close()
    assert detached[0] - paused >= 1.9 * CHECK_SECONDS


def test_before_the_deadline_nothing_is_detached() -> None:
    looks: list[int] = []

    def count_calls() -> int:
        looks.append(1)
        return 0

    detached: list[int] = []
    watchdog = Watchdog(lambda: detached.append(1), count_calls, 1e9)
    watchdog.set_deadline(time.monotonic() + 3600)
    watchdog.start()
    wait_until(lambda: len(looks) > 2, "it has looked a few times")
    watchdog.close()
    assert detached == []
    assert watchdog.reason == ""


@pytest.mark.ebpf
def test_a_process_that_makes_more_calls_than_allowed_is_let_go(build: Build, closing: Closing) -> None:
    """What was counted until then can be read, and nothing is counted any more."""
    with Target([build("busy.c")]) as target, closing.tracing(target, max_rate=10) as tracer:
        wait_until(lambda: bool(tracer.detached), "the probes are detached")
        assert "--max-rate 10" in tracer.detached
        wait_until(lambda: tracer.snapshot().counts == tracer.snapshot().counts, "the counts stand still")
        assert count(tracer).own


@pytest.mark.ebpf
@pytest.mark.parametrize(
    ("waits", "detached"),
    [([GRACE_SECONDS + 1], False), ([ALIGNED_SECONDS - 1, ALIGNED_SECONDS], False), ([LATE_SECONDS], True)],
)
def test_a_last_sample_at_a_moment_of_its_own_choice_has_its_time(
    waits: list[float], detached: bool, build: Build, closing: Closing
) -> None:
    """At each of its tries. One that is later than that is of a time without probes, and the window says so."""
    tries = iter([[], waits])  # of the first sample, and of the last one

    def align(take: Callable[[], Sample]) -> Sample:
        for seconds in next(tries):
            time.sleep(seconds)
            take()
        return take()

    def pause(interval: float) -> bool:
        time.sleep(interval)
        return True

    with (
        Target([build("busy.c")]) as target,
        closing.tracing(target) as tracer,
        Symbolizer(tracer.process, NO_DEBUG_FILES) as symbolizer,
    ):
        window = measure(tracer, symbolizer, 0.5, sample_count=5, pause=pause, align=align)
    assert bool(window.detached) is detached
