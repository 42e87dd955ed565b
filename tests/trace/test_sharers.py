"""Processes that share the traced one's memory are part of it: what they free was not leaked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from diagnosis.target.members import family_of
from diagnosis.target.process import Process
from diagnosis.trace.group import Group
from tests.support.waiting import wait_until
from tests.trace.tracing import Row, Target, count, report_on

if TYPE_CHECKING:
    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing

pytestmark = pytest.mark.ebpf

HANDED_OVER = {"take_and_hand_over": Row(100, 100, 0)}


def test_a_process_that_shares_the_memory_from_the_start(build: Build, closing: Closing, allow_session: bool) -> None:
    with (
        Target([build("shared_memory.c")]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        report = report_on(tracer, target.go)
        counted = count(tracer)
        (child,) = Process(target.pid).children()
    assert counted.own == HANDED_OVER
    assert counted.lost == {}
    assert report.notes == (f"Processes that share the memory are in these numbers (clone with CLONE_VM: {child}).",)
    assert not any(report.lost.values())  # it is no child with a heap of its own


def test_one_that_comes_later_is_attached_to_as_well(build: Build, closing: Closing, allow_session: bool) -> None:
    with (
        Target([build("shared_memory.c"), "late"]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        assert target.go() == "started"
        wait_until(lambda: "share the memory" in " ".join(tracer.notes), "it is attached to")
        assert target.go() == "done"
        counted = count(tracer)
    # The consumer's own mapping is the program's: its stack.
    assert {name: row for name, row in counted.own.items() if name in HANDED_OVER} == HANDED_OVER
    assert counted.lost == {}


def test_in_a_group_it_is_no_process_of_its_own(build: Build) -> None:
    with Target([build("shared_memory.c")]) as target:
        process = Process(target.pid)
        with Group(process, family_of(process)) as group:
            assert target.go() == "done"
            snapshot = group.snapshot()
            assert sum(each.outstanding_bytes for each in snapshot.counts.values()) == 0
            assert snapshot.older is not None
            assert snapshot.older.frees == 0
            (note,) = group.notes
            assert "share the memory" in note
