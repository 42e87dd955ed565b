"""What `memleak-lab trace` says of processes that leak, grow or do neither, each in its own way."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.programs import answer, compile_c, running
from tests.tool.accounts import assert_adds_up, part

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMLEAK_LAB = Path(sys.executable).with_name("memleak-lab")
SOURCE = Path(__file__).with_name("programs") / "kinds.c"
MIB = 1 << 20

# What was taken in the moments between two readings of one end of the window, at the rates of these programs.
BETWEEN_BYTES = 8 * MIB

pytestmark = pytest.mark.ebpf


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(
        SOURCE.read_text(), tmp_path_factory.mktemp("kinds") / "kinds", "-O2", "-pthread", f"-I{SOURCE.parent}"
    )


def trace(
    kinds: Path, kind: str, *arguments: object, seconds: float = 6, asked_at: Sequence[float] = ()
) -> dict[str, Any]:
    """The report of a window of a process of this kind, whose account adds up.

    Some kinds do what they do when they are asked to: ``asked_at`` are the seconds after the probes were attached.
    """
    with running(kinds, kind, *map(str, arguments)) as process:
        assert answer(process) == "ready"
        options = f"--pid {process.pid} --duration {seconds}s --format json".split()
        with subprocess.Popen(
            [MEMLEAK_LAB, "trace", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as tracer:
            assert tracer.stderr
            attached = next((line for line in tracer.stderr if line.startswith("tracing pid")), "")
            began = time.monotonic()
            for moment in asked_at:
                time.sleep(max(0.0, began + moment - time.monotonic()))
                assert answer(process, "now") == "done"
            output, errors = tracer.communicate(timeout=120)
    assert tracer.returncode == 0, attached + errors
    report: dict[str, Any] = json.loads(output)
    check_account(report)
    return report


def check_account(report: dict[str, Any]) -> None:
    """The parts are the whole, and the whole is what the kernel counts beside it."""
    assert_adds_up(report)
    truth = report["truth"]
    counted = truth["anonymous_bytes_end"] - truth["anonymous_bytes_start"]
    assert abs(counted - part(report, "anonymous")) <= report["account"]["error_bytes"] + BETWEEN_BYTES


# --- no leak ---


def test_a_service_in_equilibrium_does_not_leak(kinds: Path) -> None:
    """No order that is taken in the window is freed in it: those that are freed are older."""
    report = trace(kinds, "equilibrium")
    assert report["verdict"]["answer"] == "no leak", report["verdict"]["summary"]
    assert "of older blocks" in report["verdict"]["summary"]
    taken = next(stack for stack in report["stacks"] if stack["frames"][0]["function"] == "order_open")
    assert taken["frees"] == 0
    assert taken["older_frees"] == pytest.approx(taken["allocations"], rel=0.01)
    assert abs(part(report, "live")) < 64 * 1024


def test_a_cache_that_fills_up_and_then_replaces_does_not_leak(kinds: Path) -> None:
    report = trace(kinds, "cache")
    assert report["verdict"]["answer"] == "no leak", report["verdict"]["summary"]


def test_batches_that_are_given_back_do_not_leak(kinds: Path) -> None:
    report = trace(kinds, "batches")
    assert report["verdict"]["answer"] == "no leak", report["verdict"]["summary"]


def test_mappings_of_a_file_are_address_space(kinds: Path, tmp_path: Path) -> None:
    report = trace(kinds, "files", tmp_path / "segments")
    assert report["verdict"]["answer"] == "no leak", report["verdict"]["summary"]
    assert "address space, mappings of files, is held by segment_map" in report["verdict"]["summary"]


def test_freed_memory_that_the_allocator_holds_is_no_leak_and_is_said(kinds: Path) -> None:
    report = trace(kinds, "arenas", seconds=8)
    assert report["verdict"]["answer"] == "no leak", report["verdict"]["summary"]
    assert part(report, "retained") > 10 * MIB
    assert "freed memory that the allocator holds" in report["verdict"]["summary"]


# --- leaks ---


def test_a_buffer_that_only_grows_leaks(kinds: Path) -> None:
    """Each growth frees the block before: what is old is the buffer, not its block."""
    verdict = trace(kinds, "buffer", asked_at=(0.2,))["verdict"]
    assert (verdict["answer"], verdict["function"]) == ("leak", "journal_write"), verdict["summary"]


def test_the_function_above_a_wrapper_of_malloc_is_named(kinds: Path) -> None:
    verdict = trace(kinds, "wrapper")["verdict"]
    assert (verdict["answer"], verdict["function"], verdict["caller"]) == ("leak", "value_make", "value_put")


# --- growing ---


def test_bursts_are_growth_that_is_named_with_what_would_decide(kinds: Path) -> None:
    verdict = trace(kinds, "bursts", asked_at=(1.5, 4))["verdict"]
    assert (verdict["answer"], verdict["function"]) == ("growing", "report_load"), verdict["summary"]
    assert "--duration 30s" in verdict["decides"]


def test_a_heap_that_is_reserved_once_and_used_bit_by_bit_is_named(kinds: Path) -> None:
    report = trace(kinds, "commit")
    verdict = report["verdict"]
    assert (verdict["answer"], verdict["function"]) == ("growing", "heap_extend"), verdict["summary"]
    assert part(report, "unseen") > 20 * MIB


def test_memory_from_the_kernel_itself_is_named(kinds: Path) -> None:
    report = trace(kinds, "pools")
    verdict = report["verdict"]
    assert verdict["answer"] == "growing", verdict["summary"]
    assert "pool_grow" in verdict["summary"]
    assert "pool_map" in verdict["summary"]
    assert part(report, "unseen") > 10 * MIB


def test_shared_memory_and_open_memfds_are_growth(kinds: Path) -> None:
    report = trace(kinds, "shared")
    verdict = report["verdict"]
    assert verdict["answer"] == "growing", verdict["summary"]
    assert part(report, "shared") > 10 * MIB
    assert part(report, "memfd") > 10 * MIB
    assert "message_post" in verdict["summary"]
    assert "memfd_fill" in verdict["summary"]


def test_stacks_of_threads_that_nobody_joins_are_growth(kinds: Path) -> None:
    report = trace(kinds, "stacks")
    verdict = report["verdict"]
    assert verdict["answer"] != "no leak", verdict["summary"]
    assert "thread stacks grew by" in verdict["summary"]
    assert "reserved by job_start" in verdict["summary"]
    assert part(report, "stacks") > 5 * MIB
