"""Programs of the kinds that are met in production, exact to the byte."""

from __future__ import annotations

import platform
import subprocess
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.target.process import Process
from diagnosis.trace.tracer import Tracer
from diagnosis.trace.trial import endangers_filtered
from tests.support.allocator_libraries import archive
from tests.trace.tracing import Row, Target, count

if TYPE_CHECKING:
    from pathlib import Path

    from diagnosis.target.symbols import SymbolizedStack
    from tests.trace.conftest import Build, Trace
    from tests.trace.tracing import Closing

pytestmark = pytest.mark.ebpf

# jemalloc's interface, as Rust's tikv-jemalloc-sys renames it.
RENAMED = (
    "malloc", "calloc", "realloc", "free", "aligned_alloc", "posix_memalign", "memalign", "valloc",
    "malloc_usable_size", "mallocx", "rallocx", "xallocx", "sallocx", "dallocx", "sdallocx", "nallocx",
)  # fmt: skip


def test_coroutines_that_change_over_within_nested_calls(build: Build, closing: Closing, allow_session: bool) -> None:
    with (
        Target([build("coroutines.c")]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        blocks, held = map(int, target.go().split())
        counted = count(tracer)
    assert blocks > 50
    assert counted.own["keeps"] == Row(blocks, 0, held)
    taken, moved = counted.own["takes"], counted.own["nest"]
    # Each block is taken, moved by realloc, and freed. Nothing of it is held at the end.
    assert taken == Row(taken.allocations, taken.allocations, 0)
    assert moved == Row(taken.allocations, taken.allocations, 0)
    assert counted.lost == {}


def test_two_hundred_threads_at_once(trace: Trace) -> None:
    counted = trace("crowd.c")
    assert counted.own["keeps"] == Row(20_000, 0, 6_000_000)
    assert counted.own["gives_back"] == Row(20_000, 20_000, 0)
    assert counted.own["moves"] == Row(40_000, 40_000, 0)
    assert counted.lost == {}


def test_a_process_that_is_ended_at_any_other_system_call(build: Build, closing: Closing, allow_session: bool) -> None:
    """The probes are none of its system calls: it lives, and is counted. Where they are, it is refused."""
    kernel = platform.uname()
    if endangers_filtered(kernel.release, kernel.machine):
        with Target([build("filtered.c")]) as target, pytest.raises(LabError, match="seccomp filter"):
            Tracer(Process(target.pid))
        return
    with (
        Target([build("filtered.c")]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        assert target.go() == "done"
        counted = count(tracer)
    assert counted.table == {"keeps": Row(10, 0, 2_000_000)}
    assert counted.lost == {}


def test_jemalloc_as_rust_links_it(build: Build, closing: Closing, allow_session: bool, tmp_path: Path) -> None:
    renamed, names = tmp_path / "librjem.a", tmp_path / "names"
    names.write_text("".join(f"{name} _rjem_{name}\n" for name in RENAMED))
    original = archive("libjemalloc_pic.a", "libjemalloc-dev")
    subprocess.run(["objcopy", f"--redefine-syms={names}", original, renamed], check=True)
    program = build("rjem.c", str(renamed), "-lm", "-ldl", "-lstdc++", name="rjem")
    with Target([program]) as target, closing.tracing(target, allow_session=allow_session) as tracer:
        assert target.go() == "done"
        counted = count(tracer)
        families = {family for allocator in tracer.allocators for family in allocator.families}
    assert "jemalloc (_rjem_*)" in families
    assert counted.own == {
        "sessions_cached": Row(5, 0, 15_000),
        "vectors_grown_and_dropped": Row(14, 14, 0),
        "c_library_kept": Row(1, 0, 100),
    }
    assert counted.lost == {}


def test_rust_with_the_systems_allocator(build: Build, closing: Closing, allow_session: bool) -> None:
    """Every stack is whole: rustc links with lld, which lays code and data into one page of the file."""

    def request(stack: SymbolizedStack) -> str:
        names = [frame.name.rpartition("::")[2] for frame in stack.frames]
        return next((name for name in names if name in {"cache_session", "drop_vectors"}), "")

    with (
        Target([build("sessions.rs")]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        assert target.go() == "done"
        counted = count(tracer)
    assert counted.by(request) == {"cache_session": Row(5, 0, 15_000), "drop_vectors": Row(14, 14, 0)}
    assert {stack.frames[-1].name for stack, _ in counted.stacks} == {"_start"}
    assert counted.lost == {}
