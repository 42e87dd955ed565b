"""What a program takes by mremap, from files, shared or as stacks of its own: whose it is, and what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.trace.tracing import Target, report_on

if TYPE_CHECKING:
    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing

pytestmark = pytest.mark.ebpf

STEPS = 4
STEP = 256 << 10
PAGE = 4096


def test_memory_of_a_program_s_own_mappings_is_theirs(build: Build, closing: Closing) -> None:
    with Target([build("own_mappings.c")]) as target, closing.tracing(target) as tracer:
        report = report_on(tracer, *[target.go] * STEPS)
    took = {
        name: report.outstanding_of(name).allocated_bytes
        for name in ("grows_buffer", "patches_file", "maps_zeroes", "shares", "makes_stack")
    }
    assert took == {
        "grows_buffer": STEPS * STEP,
        "patches_file": STEPS * STEP,
        "maps_zeroes": STEPS * STEP,
        "shares": STEPS * STEP,
        "makes_stack": STEPS * (STEP + PAGE),
    }
    assert not report.outstanding_of("reads_file").allocations + report.outstanding_of("grows_segment").allocations
    assert report.account
    parts = {part.name: part.bytes for part in (*report.account.kinds, *report.account.anonymous)}
    assert parts["shared_mapped"] == STEPS * STEP
    assert parts["mapped"] == pytest.approx(4 * STEPS * STEP, abs=2 * PAGE)
    assert parts.get("stacks", 0) + parts.get("unseen", 0) <= 8 * PAGE
