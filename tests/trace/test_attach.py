"""Probes that come while the process is at it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from heap_trace import Kind, Probe, Signature, attach_rank

from tests.support.waiting import wait_until
from tests.trace.tracing import Row, Target, count

if TYPE_CHECKING:
    from diagnosis.trace.tracer import Tracer
    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing

pytestmark = pytest.mark.ebpf

BUSY = {"busy_malloc", "busy_realloc", "busy_reallocarray", "busy_memalign", "busy_mmap", "busy_mremap"}
ATTACHMENTS = 4


def test_what_gives_back_is_probed_before_what_only_takes() -> None:
    """Else a block that is taken and given back in between stays outstanding: a loss of milliseconds, in few runs."""
    probes = [Probe(Signature(kind), 0) for kind in Kind]
    order = [probe.signature.kind for probe in sorted(probes, key=attach_rank)]
    assert order[:2] == [Kind.FREE, Kind.MUNMAP]
    assert set(order[2:5]) == {Kind.REALLOCATE, Kind.RESIZE, Kind.MREMAP}


def test_attaching_under_load(build: Build, closing: Closing, allow_session: bool) -> None:
    """Blocks of before are never charged, and no block of during the attachment stays behind."""

    def all_busy(tracer: Tracer) -> bool:
        return {name for name, row in count(tracer).own.items() if row.allocations > 10} >= BUSY

    with Target([build("busy.c")]) as target:
        for _ in range(ATTACHMENTS):
            with closing.tracing(target, allow_session=allow_session) as tracer:
                wait_until(partial(all_busy, tracer), "every function allocates under the trace")
                assert target.go() == "resting"
                counted = count(tracer)
                assert target.go() == "busy"
            rows = counted.own
            assert rows.pop("kept_afterwards") == Row(1, 0, 321)
            assert set(rows) == BUSY
            assert {
                name: (row.allocations - row.frees, row.outstanding) for name, row in rows.items()
            } == dict.fromkeys(BUSY, (0, 0))
            assert counted.lost == {}
