"""The gadget's object in the kernel, its map read as Inspektor Gadget reads it."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from comparison.guide.service import Scene, held_service
from diagnosis.target.process import Process
from diagnosis.target.symbols import Symbolizer
from tests.support.every_call import MIB, ON_THE_HEAP, go, waiting
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

pytestmark = pytest.mark.ebpf


def functions(row: dict[str, Any]) -> list[str]:
    """The names of a row's stack, innermost first."""
    with Symbolizer(Process(row["pid"])) as symbolizer:
        return [frame.name for frame in symbolizer.symbolize(tuple(row["frames"])).frames]


def test_every_call_of_the_allocator_is_booked_on_the_function_that_made_it(
    every_call: Path, counting: Callable[..., Any]
) -> None:
    with waiting(every_call) as process, counting(process.pid, "-m", "0") as gadget:
        go(process)
        # The row without frames is for stacks that were not kept. There are none.
        rows = [row for row in gadget.rows() if row["frames"] or row["allocations"]]
        totals: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for row in rows:
            name = functions(row)[0]
            for i, key in enumerate(("outstanding_raw", "allocations", "frees")):
                totals[name][i] += row[key]

    assert all(row["untracked"] == 0 for row in rows)
    assert {
        name: tuple(total) for name, total in totals.items() if name.startswith(("by_", "taken_", "pairs"))
    } == ON_THE_HEAP


def executes(process: subprocess.Popen[str], program: Path) -> bool:
    """Whether the process has become this program."""
    return Path(f"/proc/{process.pid}/exe").readlink() == program


def test_processes_are_told_apart_and_one_that_ended_is_forgotten(
    every_call: Path, counting: Callable[..., Any]
) -> None:
    """In a mount namespace of their own: what else runs on a busy machine would fill the report."""
    with ExitStack() as stack:
        one = stack.enter_context(waiting(every_call, "unshare", "--mount"))
        wait_until(lambda: executes(one, every_call), "the first one has a mount namespace of its own")
        other = stack.enter_context(waiting(every_call, "nsenter", f"--mount=/proc/{one.pid}/ns/mnt"))
        wait_until(lambda: executes(other, every_call), "the other one is in it")
        gadget = stack.enter_context(counting(one.pid, "-a", "-m", "1000"))
        go(one)
        go(other)
        wait_until(
            lambda: any(row["pid"] == one.pid for reading in gadget.so_far() for row in reading),
            "the first one's stacks are reported",
        )
        one.kill()
        one.wait()
        readings = gadget.readings()
        rows = readings[-1]
        of_other = [row for row in rows if row["pid"] == other.pid]
        own = next(row for row in of_other if functions(row)[:1] == ["by_malloc"])

    assert not [row for row in rows if row["pid"] == one.pid]
    # Whoever keeps the last value of each row, as Inspektor Gadget's metrics do, is left with none of its bytes.
    last = {(row["function"], *row["frames"]): row for reading in readings for row in reading if row["pid"] == one.pid}
    assert {(row["outstanding_raw"], row["blocks"], row["allocations"]) for row in last.values()} == {(0, 0, 0)}
    assert (own["outstanding_raw"], own["blocks"], own["leak_percent"]) == (1000, 1, 100)


@pytest.mark.parametrize("chunk_kib", [64, 1024])
def test_the_leak_is_exact_and_named_with_its_whole_path(chunk_kib: int, counting: Callable[..., Any]) -> None:
    scene = Scene(container=False, chunk_bytes=chunk_kib << 10, cap_bytes=8 * MIB)

    with held_service(scene) as service, counting(service.pid) as gadget:
        service.release()
        leaked = service.wait_until_full()
        row = max(gadget.rows(), key=lambda row: row["outstanding_raw"])
        names = functions(row)

    assert row["outstanding_raw"] == leaked > 0
    assert (row["allocations"], row["frees"]) == (leaked // scene.chunk_bytes, 0)
    assert names[:3] == ["catalog_cache_insert", "catalog_cache_refresh", "catalog_cache_worker"]
    assert row["comm"] == "cache-refresh"
    file, _, offset = row["function"].partition("+")
    assert file.startswith("_catalog_cache")
    assert int(offset, 16) > 0
