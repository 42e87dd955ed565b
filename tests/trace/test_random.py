"""A million random calls from eight threads, against the program's own books: for every stack, to the byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.allocator_libraries import PRELOADED, TCMALLOC
from tests.trace.tracing import Row, Target, count

if TYPE_CHECKING:
    from diagnosis.target.symbols import SymbolizedStack
    from tests.support.allocator_libraries import Preloaded
    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing

pytestmark = pytest.mark.ebpf

CALLS = 1_000_000
STACKS = 88


def books(line: str) -> dict[str, Row]:
    """The program's own: by function and caller, where there is anything to tell."""
    return {
        f"{site} {way}": Row(allocations, frees, outstanding)
        for site, way, allocations, frees, outstanding in json.loads(line)
    }


def site_and_way(stack: SymbolizedStack) -> str:
    names = [frame.name for frame in stack.frames[:2]]
    return " ".join(names) if names[-1].startswith("from_") else ""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_stack_equals_the_programs_books(build: Build, closing: Closing, seed: int, allow_session: bool) -> None:
    with (
        Target([build("random.c"), str(seed), str(CALLS), "pvalloc"]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        first = tracer.snapshot()
        target.start()
        expected = books(target.reached(meanwhile=tracer.snapshot))
        counted = count(tracer)
        survivors = tracer.survivors(first)

        assert len(expected) == STACKS
        assert sum(row.allocations for row in expected.values()) > CALLS / 3
        assert counted.by(site_and_way) == expected
        assert counted.lost == {}

        left = {stack: (each.blocks, each.bytes) for stack, each in survivors.items()}
        now = {
            stack: (counts.outstanding, counts.outstanding_bytes)
            for stack, counts in tracer.snapshot().counts.items()
            if counts.outstanding
        }
        assert left == now

        everything_freed = books(target.go())
        assert counted.lost == {}
        assert count(tracer).by(site_and_way) == everything_freed
        assert all(row.outstanding == 0 and row.allocations == row.frees for row in everything_freed.values())


@pytest.mark.parametrize("preloaded", PRELOADED, ids=str)
def test_another_allocators_stacks_equal_the_programs_books(
    build: Build, closing: Closing, preloaded: Preloaded
) -> None:
    """Its malloc family calls the C library's mmap, and the C library's reallocarray calls it."""
    pvalloc = "pvalloc" if preloaded is TCMALLOC else "no"
    with (
        Target([build("random.c"), "4", str(CALLS // 5), pvalloc], {"LD_PRELOAD": str(preloaded.path())}) as target,
        closing.tracing(target) as tracer,
    ):
        expected = books(target.go())
        counted = count(tracer)
    assert counted.by(site_and_way) == {name: row for name, row in expected.items() if row.allocations}
    assert counted.lost == {}
