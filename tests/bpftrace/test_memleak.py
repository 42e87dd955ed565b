"""The script on real processes: every function of the allocator, and the lab's leak, here and in a container."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from diagnosis.grade import LEAKING_FUNCTION
from guide.service import Scene, build_image, held_service
from guide.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
RUNNER = Path(__file__).resolve().parents[2] / "native/bpftrace/memleak.py"
UPROBES = 25

pytestmark = [
    pytest.mark.ebpf,
    pytest.mark.skipif(not shutil.which("bpftrace"), reason="bpftrace is not installed: apt-get install bpftrace"),
]

# function: bytes outstanding, allocations, frees. Those that fail and those that take nothing are absent.
EXPECTED = {
    "by_malloc": (1000, 1, 0),
    "by_malloc_of_nothing": (0, 1, 0),
    "by_malloc_of_a_mapping": (MIB, 1, 0),
    "by_calloc": (3000, 1, 0),
    "by_aligned_alloc": (4096, 1, 0),
    "by_memalign": (5000, 1, 0),
    "by_valloc": (6000, 1, 0),
    "by_pvalloc": (7000, 1, 0),
    "by_reallocarray": (8000, 1, 0),
    "by_posix_memalign": (9000, 1, 0),
    "taken_to_grow": (0, 1, 1),
    "by_realloc": (200_000, 1, 0),
    "taken_to_stay": (300, 1, 0),
    "taken_to_stay_too": (500, 1, 0),
    "taken_to_vanish": (0, 1, 1),
    "mapped": (0, 1, 1),
    "by_mremap": (1 << 18, 1, 0),
    "mapped_for_a_while": (0, 1, 1),
    "pairs": (0, 8000, 8000),
}


@contextmanager
def counting(pid: int) -> Iterator[Session]:
    """The runner on a process, with its probes in place."""
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
    with subprocess.Popen([every_call], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin
        assert program.stdout
        try:
            with counting(program.pid) as session:
                program.stdin.write("go\n")
                program.stdin.flush()
                assert program.stdout.readline() == "done\n"
                counted = by_function(session.finish())
        finally:
            program.kill()

    # What is left are libc's own needs: a buffer for stdout, and the threads' stacks.
    assert {
        name: counts for name, counts in counted.items() if name.startswith(("by_", "taken_", "mapped", "pairs"))
    } == EXPECTED


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
