from __future__ import annotations

import gc
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from service.claims import MEAN_BLOCK_BYTES, RuntimeView
from tests.support.running_service import ROOT

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024

# Finds every object once: those the collector tracks and, from them, all that they refer to.
CENSUS = """
import gc, sys, uvicorn.protocols.http.h11_impl, service.__main__
gc.collect()
blocks = sys.getallocatedblocks()
seen, total, front = set(), 0, gc.get_objects()
while front:
    found = []
    for one in front:
        if id(one) not in seen:
            seen.add(id(one))
            total += sys.getsizeof(one)
            found.append(one)
    front = [one for one in gc.get_referents(*found) if id(one) not in seen]
print(total / blocks)
"""


class Runtime:
    """The interpreter's counters, as the test wants them."""

    def __init__(self, statm: Path) -> None:
        self.blocks = 100_000
        self.now = 50.0
        self.generations = [
            {"collections": 70, "collected": 900, "uncollectable": 0},
            {"collections": 6, "collected": 80, "uncollectable": 1},
            {"collections": 1, "collected": 7, "uncollectable": 2},
        ]
        self.statm = statm
        self.write_statm(resident_pages=8000)

    def write_statm(self, resident_pages: int) -> None:
        self.statm.write_text(f"20000 {resident_pages} 3000 1 0 9000 0\n")

    def view(self, limit_bytes: int = 1000 * MIB) -> RuntimeView:
        return RuntimeView(
            limit_bytes,
            statm=self.statm,
            clock=lambda: self.now,
            allocated_blocks=lambda: self.blocks,
            gc_stats=lambda: self.generations,
        )


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path / "statm")


def test_memory_is_the_interpreters_heap_against_the_limit(runtime: Runtime) -> None:
    claims = runtime.view(limit_bytes=1200 * MEAN_BLOCK_BYTES * 1000).read()
    assert claims.heap_bytes == 100_000 * MEAN_BLOCK_BYTES
    assert claims.memory_usage_percent == pytest.approx(100 * 100 / 1200)


def test_resident_memory_is_the_size_at_start_plus_the_growth_of_the_heap(runtime: Runtime) -> None:
    view = runtime.view()
    at_start = view.read()
    runtime.write_statm(resident_pages=500_000)  # GIVEN the kernel sees 1.9 GiB
    assert view.read().resident_bytes == at_start.resident_bytes
    runtime.blocks += 1000  # WHEN only the interpreter's heap counts
    claims = view.read()
    assert claims.resident_bytes == at_start.resident_bytes + 1000 * MEAN_BLOCK_BYTES
    assert claims.virtual_bytes == at_start.virtual_bytes + 1000 * MEAN_BLOCK_BYTES
    assert claims.resident_percent == pytest.approx(100 * claims.resident_bytes / (1000 * MIB))


def test_collections_are_summed_and_uptime_runs(runtime: Runtime) -> None:
    view = runtime.view()
    runtime.now += 12.5
    claims = view.read()
    assert (claims.gc_collections, claims.gc_uncollectable, claims.uptime_seconds) == (77, 3, 12.5)


def test_the_heap_estimate_follows_a_real_heap() -> None:
    view = RuntimeView(1000 * MIB)
    before = view.read().heap_bytes
    kept = [object() for _ in range(100_000)]
    grown = view.read().heap_bytes - before
    assert grown == pytest.approx(len(kept) * MEAN_BLOCK_BYTES, rel=0.02)
    del kept
    gc.collect()
    assert view.read().heap_bytes - before < grown / 10


def test_the_mean_block_is_what_a_census_of_a_started_service_finds() -> None:
    census = subprocess.run(
        [sys.executable, "-c", CENSUS], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert float(census.stdout) == pytest.approx(MEAN_BLOCK_BYTES, rel=0.3)
