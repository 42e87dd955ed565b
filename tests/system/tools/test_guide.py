"""Real tools on the real service: what the guide says of them is so."""

from __future__ import annotations

import ctypes.util
import os

import pytest

from comparison.guide.loaded_probes import LoadedProbes
from comparison.guide.measure import run_on_packaged, run_on_service
from comparison.guide.service import Scene
from comparison.loops.loads import PACKAGED_SQLITE
from comparison.tools.bcc import LaunchedBcc
from comparison.tools.lab_trace import LabTrace
from comparison.tools.perf import Perf
from comparison.tools.session import Session
from diagnosis.base.errors import LabError
from diagnosis.target.process import Process

pytestmark = pytest.mark.ebpf

MIB = 1 << 20


def test_bcc_loses_the_function_that_takes_large_blocks() -> None:
    tool = LaunchedBcc()
    if reason := tool.missing():
        pytest.skip(f"needs BCC: {reason}")

    finding = run_on_service(tool, Scene(container=False, chunk_bytes=MIB, cap_bytes=8 * MIB)).finding

    assert finding.found
    assert not finding.named
    assert finding.bytes_off == 8 * 4096  # each block's mapping has a page more than the block


def test_this_tracer_names_who_leaks_through_a_packaged_library() -> None:
    if not ctypes.util.find_library("sqlite3"):
        pytest.skip("libsqlite3 is not installed: apt-get install libsqlite3-0")

    assert run_on_packaged(LabTrace()) == PACKAGED_SQLITE.keeper


def test_perf_names_the_function_by_the_pages_that_it_touches() -> None:
    tool = Perf()
    if reason := tool.missing():
        pytest.skip(f"needs perf: {reason}")

    # The interpreter touches some pages too: 32 MiB of the leak are enough to stand out.
    finding = run_on_service(tool, Scene(container=False, chunk_bytes=64 << 10, cap_bytes=32 * MIB)).finding

    assert finding.named


def test_a_tool_that_ends_without_probes_is_an_error_with_what_it_said() -> None:
    with (
        Session(["sh", "-c", "echo no such process >&2"], {}) as session,
        pytest.raises(LabError, match="attached 0 of 1 probes: no such process"),
    ):
        session.wait_until_attached(1)


def test_probes_of_programs_that_nobody_has_loaded_are_refused() -> None:
    process = Process(os.getpid())
    libc = next(process.open_path(mapping) for mapping in process.maps() if "/libc.so.6" in mapping.path)

    with pytest.raises(LabError, match="none of the gadget's programs is loaded"):
        LoadedProbes(process.pid, libc, ["mallinfo2", "no_function"])
