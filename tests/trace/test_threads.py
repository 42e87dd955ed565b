"""Threads, signals and deep stacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from heap_trace import MAX_FRAMES

from diagnosis.target.process import Process
from tests.support.waiting import wait_until
from tests.trace.tracing import Row, Target, count, probes_held

if TYPE_CHECKING:
    from tests.trace.conftest import Build, Trace
    from tests.trace.tracing import Closing

pytestmark = pytest.mark.ebpf

MIB = 1024 * 1024


def test_blocks_change_threads_and_outlive_them(build: Build, closing: Closing, allow_session: bool) -> None:
    handed_over = {
        "takes": Row(1000, 950, 50 * 200),
        "reallocs_of_another": Row(50, 0, 25 * 300 + 25 * MIB),
        "holds_at_its_end": Row(10, 0, 12340),
    }
    with (
        Target([build("threads.c")]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        assert target.go() == "handed over"
        counted = count(tracer)
        assert counted.own == handed_over
        assert counted.lost == {}

        assert target.go() == "done"  # after ten thousand short threads
        counted = count(tracer)
        assert counted.own == handed_over | {
            "taken_in_short_thread": Row(10_000, 10_000, 0),
            "kept_by_short_thread": Row(1000, 0, 24_000),
        }
        assert counted.lost == {}


@pytest.mark.alone
@pytest.mark.parametrize("stack", ["own-stack", "other-stack"])
def test_signals_interrupt_calls(trace: Trace, stack: str) -> None:
    counted = trace("signals.c", stack)
    assert counted.table == {
        "interrupted": Row(40_000, 40_000, 0),
        "interrupted_and_kept": Row(20_000, 0, 1_000_000),
    }
    assert counted.lost == {}


def test_stacks_that_are_deeper_than_what_is_kept(trace: Trace) -> None:
    """The innermost frames are there, and the numbers are whole: stacks that differ further out are one."""
    counted = trace("recursion.c")
    assert counted.table == {"at_the_bottom": Row(5, 0, 500)}
    assert counted.lost == {}
    by_depth = {stack.depth: counts.allocations for stack, counts in counted.stacks}
    assert by_depth.pop(MAX_FRAMES) == 4
    assert list(by_depth.values()) == [1]
    deep = next(stack for stack, _ in counted.stacks if stack.depth == MAX_FRAMES)
    assert [frame.name for frame in deep.frames] == ["at_the_bottom"] + ["descends"] * (MAX_FRAMES - 1)


LEADER = {"leak_in_thread": Row(5, 0, 10_000), "freed_in_thread": Row(1, 1, 0)}


def test_a_process_whose_first_thread_has_ended(build: Build, closing: Closing, allow_session: bool) -> None:
    """The kernel has forgotten that thread's memory, and the process lives."""
    with Target([build("leader.c"), "before"]) as target:
        wait_until(lambda: Process(target.pid).thread != target.pid, "the first thread has ended")
        with closing.tracing(target, allow_session=allow_session) as tracer:
            assert target.go() == "done"
            counted = count(tracer)
            assert tracer.notes == ()
            assert tracer.process.alive()
    assert counted.own == LEADER
    assert counted.lost == {}


@pytest.mark.parametrize("ending", ["meanwhile", "other"])
def test_the_thread_that_the_kernel_finds_a_process_by_ends_under_the_trace(
    build: Build, closing: Closing, allow_session: bool, ending: str
) -> None:
    """A session's probes stay. Those of the older kind go with it, and are attached by way of another thread."""
    with Target([build("leader.c"), ending]) as target:
        if ending == "other":
            wait_until(lambda: Process(target.pid).thread != target.pid, "the first thread has ended")
        with closing.tracing(target, allow_session=allow_session) as tracer:
            held = probes_held()
            assert target.go() == "ended"
            moves = ending == "other" or not tracer._trace.uses_session
            if moves:
                wait_until(lambda: bool(tracer.notes), "the probes are attached anew")
            assert target.go() == "done"
            counted = count(tracer)
            assert probes_held() <= held, "those by way of the thread that has ended are detached"
            assert len(tracer.notes) == moves
    assert counted.own == LEADER
    assert counted.lost == {}
