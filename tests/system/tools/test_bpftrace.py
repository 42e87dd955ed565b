"""The script on real processes: every function of the allocator, and the lab's leak, here and in a container."""

from __future__ import annotations

import json
import shutil
import sys
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from comparison.guide.service import Scene, build_image, held_service
from comparison.tools.session import Session
from diagnosis.lab.grade import LEAKING_FUNCTION
from tests.support.every_call import MAPPED, MIB, ON_THE_HEAP, go, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNNER = Path(__file__).resolve().parents[3] / "native/bpftrace/memleak.py"
UPROBES = 25

pytestmark = [
    pytest.mark.ebpf,
    pytest.mark.skipif(not shutil.which("bpftrace"), reason="bpftrace is not installed: apt-get install bpftrace"),
]


@contextmanager
def counting(pid: int) -> Iterator[Session]:
    """The runner on a process, with its probes attached."""
    with Session([sys.executable, str(RUNNER), str(pid), "--seconds", "120", "--json"], {}) as session:
        session.wait_until_attached(UPROBES)
        yield session


def by_function(report: str) -> dict[str, tuple[int, int, int]]:
    """Counts by the innermost function of each stack."""
    totals: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    document: dict[str, Any] = json.loads(report)
    assert document["lost"] == {}
    for stack in document["stacks"]:
        name = stack["frames"][0].partition("+")[0] if stack["frames"] else ""
        for i, key in enumerate(("outstanding_bytes", "allocations", "frees")):
            totals[name][i] += stack[key]
    return {name: (total[0], total[1], total[2]) for name, total in totals.items()}


def test_every_call_of_the_allocator_is_booked_on_the_function_that_made_it(every_call: Path) -> None:
    with waiting(every_call) as program, counting(program.pid) as session:
        go(program)
        counted = by_function(session.finish())

    # What is left are libc's own needs: a buffer for stdout, and the threads' stacks.
    assert {
        name: counts for name, counts in counted.items() if name.startswith(("by_", "taken_", "mapped", "pairs"))
    } == ON_THE_HEAP | MAPPED


@pytest.mark.parametrize("chunk_kib", [64, 1024])
def test_the_leak_is_exact_and_named_with_its_whole_path(chunk_kib: int) -> None:
    scene = Scene(container=False, chunk_bytes=chunk_kib << 10, cap_bytes=8 * MIB)

    stack, leaked = _leak(scene)

    assert stack["outstanding_bytes"] == leaked > 0
    assert stack["allocations"] == leaked // scene.chunk_bytes
    assert stack["frees"] == 0
    assert [frame.partition("+")[0] for frame in stack["frames"][:3]] == [
        "catalog_cache_insert",
        "catalog_cache_refresh",
        "catalog_cache_worker",
    ]


@pytest.mark.docker
def test_a_container_is_counted_through_its_own_libc() -> None:
    build_image()

    stack, leaked = _leak(Scene(container=True, chunk_bytes=MIB, cap_bytes=8 * MIB))

    assert (stack["outstanding_bytes"], stack["allocations"], stack["frees"]) == (leaked, leaked // MIB, 0)


def _leak(scene: Scene) -> tuple[dict[str, Any], int]:
    """The one stack of the leaking function, and the ledger's bytes."""
    with held_service(scene) as service, counting(service.pid) as session:
        service.release()
        leaked = service.wait_until_full()
        document = json.loads(session.finish())
    found = [stack for stack in document["stacks"] if any(LEAKING_FUNCTION in frame for frame in stack["frames"])]
    assert len(found) == 1
    return found[0], leaked
