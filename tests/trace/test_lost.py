"""What cannot be counted, or not in full, is itself counted, exactly, and said in one line with what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from heap_trace import KERNEL_FRAMES, MAX_FRAMES, UNKNOWN_STACK, HeapTrace, Lost, UnwindMode

from diagnosis.base.errors import LabError
from diagnosis.target.allocator import find_allocators
from diagnosis.target.process import Process
from diagnosis.trace.tracer import Tracer
from tests.trace.tracing import Row, Target, count, report_on

if TYPE_CHECKING:
    from diagnosis.report.report import Report
    from tests.trace.conftest import Build, Trace
    from tests.trace.tracing import Closing, Counted

pytestmark = pytest.mark.ebpf

# As programs/losses.c has it: more than the ring's 75,000.
MAPPINGS = 100_000


def said(report: Report) -> dict[str, int]:
    """Every kind of loss that is not 0. There is a note for each, of one line."""
    lost = {kind: number for kind, number in report.lost.items() if number}
    assert len(report.notes) == len(lost)
    assert all(note and "\n" not in note for note in report.notes)
    return lost


def test_a_full_block_map_is_counted_to_the_block(build: Build, closing: Closing, allow_session: bool) -> None:
    with (
        Target([build("losses.c"), "blocks"]) as target,
        closing.tracing(target, allow_session=allow_session, max_blocks=16) as tracer,
    ):
        counts: list[Counted] = []

        def step() -> None:
            target.go()
            counts.append(count(tracer))

        report = report_on(tracer, step, step, step)
        full, empty, again = counts
    # Every block is counted at its stack; of those that found no room the free is not known.
    assert (full.table, full.lost) == ({"take_many": Row(100, 0, 1000)}, {"BLOCKS": 84})
    assert (empty.table, empty.lost) == ({"take_many": Row(100, 16, 840)}, {"BLOCKS": 84})
    assert (again.table, again.lost) == ({"take_many": Row(200, 16, 1840)}, {"BLOCKS": 168})
    assert said(report) == {"blocks": 168}
    assert "--max-blocks" in report.notes[0]


def test_a_full_stack_map_leaves_the_numbers_whole(build: Build, closing: Closing, allow_session: bool) -> None:
    """Thirty-two stacks with room for twenty: the allocations of the others are there, under no stack."""
    with (
        Target([build("losses.c"), "stacks"]) as target,
        closing.later(HeapTrace(max_stacks=20, allow_session=allow_session)) as trace,
    ):
        for allocator in find_allocators(Process(target.pid)):
            trace.attach(target.pid, str(allocator.path), [placed.probe for placed in allocator.probes], [])
        target.go()
        stacks, frames, lost = trace.counters(), trace.new_stacks(), trace.lost()
    unknown = stacks.pop(UNKNOWN_STACK)
    assert len(stacks) == 20
    assert {stack.allocations for stack in stacks.values()} == {1}
    assert unknown.allocations == 12
    assert frames.keys() == stacks.keys()
    assert all(stack.frames for stack in frames.values())
    sizes = [10 * tens + ones for tens in range(1, 5) for ones in range(8)]
    assert sum(stack.allocated_bytes for stack in stacks.values()) + unknown.allocated_bytes == sum(sizes)
    assert {kind: number for kind, number in lost.items() if number} == {Lost.STACKS: 12}


def test_a_full_ring_of_mappings_is_counted(build: Build, closing: Closing, allow_session: bool) -> None:
    """Mappings that nobody reads fill the ring; what is read makes room again."""

    def unread() -> None:
        with tracer._lock:
            target.go()

    with (
        Target([build("losses.c"), "mappings"]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        counts: list[Counted] = []

        def step() -> None:
            unread() if not counts else target.go()
            counts.append(count(tracer))

        report = report_on(tracer, step, step)
        full, again = counts
    row = full.table["map_many"]
    assert 50_000 < row.allocations < MAPPINGS
    assert row == Row(row.allocations, 0, row.allocations * 4096)
    assert full.lost == {"MAPPING": MAPPINGS - row.allocations}
    assert again.table == {"map_many": Row(row.allocations + 100, 0, (row.allocations + 100) * 4096)}
    assert again.lost == full.lost
    assert said(report) == {"mapping": full.lost["MAPPING"]}


def test_mappings_are_read_also_while_nobody_looks(build: Build, closing: Closing) -> None:
    """A window's looks can be minutes apart. More than the ring holds, with time to breathe in between, is no loss."""
    with Target([build("losses.c"), "paced"]) as target, closing.tracing(target) as tracer:
        target.go()
        counted = count(tracer)
    assert counted.table == {"map_many": Row(MAPPINGS, 0, MAPPINGS * 4096)}
    assert counted.lost == {}


def test_a_call_that_never_returned(trace: Trace) -> None:
    """The next call that can show it does, and is counted itself."""
    counted = trace("losses.c", "return")
    assert counted.table == {"returns": Row(1, 0, 70)}
    assert counted.lost == {"RETURN": 1}


def test_a_free_that_was_not_seen(build: Build, closing: Closing, allow_session: bool) -> None:
    """A block that is handed out again must have been freed.

    Two programs see what a child of vfork does in its parent's memory, against all rules. A session does not: it is
    opened for the threads of one process.
    """
    with (
        Target([build("losses.c"), "vfork"]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        target.go()
        counted = count(tracer)
        expected = {"FREE": 1} if tracer._trace.uses_session else {}
    assert counted.table == {"parent_takes": Row(2, 1, 500)}
    assert counted.lost == expected


@pytest.mark.parametrize("unwind", [UnwindMode.OFF, UnwindMode.ON], ids=["frame pointers", "tables"])
def test_stacks_deeper_than_what_is_kept(build: Build, closing: Closing, unwind: UnwindMode) -> None:
    with Target([build("recursion.c")]) as target, closing.tracing(target, unwind=unwind) as tracer:
        report = report_on(tracer, target.go)
    assert said(report) == {"deep_stack": 4}
    assert str(MAX_FRAMES if unwind else KERNEL_FRAMES) in report.notes[0]


@pytest.mark.parametrize(
    ("unwind", "kind", "remedy"),
    [
        (UnwindMode.OFF, "broken_stack", "-fno-omit-frame-pointer"),
        (UnwindMode.ON, "no_table_stack", "written in assembler"),
    ],
    ids=["frame pointers", "tables"],
)
def test_stacks_through_code_that_says_nothing_of_its_frames(
    build: Build, closing: Closing, unwind: UnwindMode, kind: str, remedy: str
) -> None:
    """The calling function and the numbers are right, and what is missing further out is said."""
    with Target([build("losses.c"), "frames"]) as target, closing.tracing(target, unwind=unwind) as tracer:
        report = report_on(tracer, target.go)
        counted = count(tracer)
    assert counted.table == {
        "frame_pointer_is_a_number": Row(3, 0, 270),
        "frame_pointer_is_data": Row(4, 0, 360),
        "returns": Row(1, 0, 70),
    }
    assert {stack.frames[0].name: stack.broken for stack in report.stacks} == {
        "frame_pointer_is_a_number": True,
        "frame_pointer_is_data": True,
        "returns": False,
    }
    assert said(report) == {kind: 7}
    assert remedy in report.notes[0]


def test_the_process_ends_during_the_window(build: Build, closing: Closing, allow_session: bool) -> None:
    """What it did until its end is in the report, with its symbols."""
    with (
        Target([build("ends.c"), "exit"]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        report = report_on(tracer, target.go, target.run_out)
    assert {
        stack.frames[0].name: (stack.allocations, stack.frees, stack.outstanding_bytes) for stack in report.stacks
    } == {"before": (5, 0, 5000), "just_before": (1, 0, 300)}
    assert said(report) == {"exit": 1}


def test_the_process_becomes_another_program_during_the_window(
    build: Build, closing: Closing, allow_session: bool
) -> None:
    """The report is of the program that was traced; nothing of the new one is booked to it."""
    with (
        Target([build("ends.c"), "exec"]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        report = report_on(tracer, target.go, target.go, target.go)
        assert target.line == "another program"
    assert {
        stack.frames[0].name: (stack.allocations, stack.frees, stack.outstanding_bytes) for stack in report.stacks
    } == {"before": (5, 0, 5000)}
    assert said(report) == {"exec": 1}
    assert "exec" in report.notes[0]


def test_a_process_that_has_ended_is_not_traced(build: Build) -> None:
    with Target([build("ends.c"), "exit"]) as target:
        process = Process(target.pid)
        target.go()
        target.run_out()
        with pytest.raises(LabError, match=f"pid {target.pid} has ended") as caught:
            Tracer(process)
    assert caught.value.remedy


def test_children_are_named(build: Build, closing: Closing) -> None:
    """A forked child's heap is not in the numbers: whom to trace for that is said."""
    with Target([build("children.c"), "stays"]) as target, closing.tracing(target) as tracer:
        report = report_on(tracer, target.go)
        child = target.line.split()[-1]
    assert said(report) == {"child": 1}
    assert child in report.notes[0]
