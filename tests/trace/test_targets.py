"""Targets of every kind: traced exactly, or refused in one line with what to do about it. None is silently zero."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.target.process import Process
from diagnosis.trace.tracer import Tracer
from tests.trace.tracing import JEMALLOC, TCMALLOC, CompilationError, Row, Target, count, report_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing, Counted, Preloaded

    Leaks = Callable[..., Counted]

pytestmark = pytest.mark.ebpf

MIB = 1024 * 1024

# What programs/leak.c does.
LEAK = {
    "leak_small": Row(10, 0, 40960),
    "leak_large": Row(2, 0, 2 * MIB),
    "leak_aligned": Row(1, 0, 1000),
    "resized": Row(4, 3, 20000),
    "freed": Row(100, 100, 0),
}
TOTAL = Row(117, 103, 40960 + 2 * MIB + 1000 + 20000)


@pytest.fixture
def leaks(closing: Closing) -> Leaks:
    """`leaks(command)`: run a build of leak.c, and count."""

    def run(*command: str | Path, inside: bool = False, allow_session: bool = True, **environment: str) -> Counted:
        with (
            Target(command, environment, inside=inside) as target,
            closing.tracing(target, allow_session=allow_session) as tracer,
        ):
            target.go()
            return count(tracer)

    return run


def refusal(target: Target) -> str:
    """Why a target is not traced: one line, with a remedy."""
    with pytest.raises(LabError) as caught:
        Tracer(Process(target.pid))
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return str(caught.value)


def libraries_of(program: Path) -> list[Path]:
    """What the dynamic linker maps for a program, itself included."""
    output = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    return [Path(word) for line in output.splitlines() for word in line.split() if word.startswith("/")]


@pytest.mark.parametrize("linking", ["-no-pie", "-static", "-static-pie"])
def test_programs_at_a_fixed_address_and_without_shared_libraries(build: Build, leaks: Leaks, linking: str) -> None:
    counted = leaks(build("leak.c", linking))
    assert counted.table == LEAK
    assert counted.lost == {}


def test_a_statically_linked_and_stripped_program_is_refused(build: Build) -> None:
    with Target([build("leak.c", "-static", "-s")]) as target:
        text = refusal(target)
    assert "statically linked" in text
    assert "stripped" in text


@pytest.mark.parametrize("linking", ["-dynamic", "-static"])
def test_a_program_on_musl(build: Build, leaks: Leaks, linking: str) -> None:
    counted = leaks(build("leak.c", linking, compiler="musl-gcc"))
    assert counted.own == LEAK
    assert counted.lost == {}


def test_a_stripped_program_goes_by_module_and_offset(build: Build, leaks: Leaks) -> None:
    counted = leaks(build("leak.c", "-s"))
    assert counted.by(lambda stack: stack.frames[0].module) == {"leak": TOTAL}
    assert all(name.startswith("leak+0x") for name in counted.table)
    assert len(counted.table) >= len(LEAK)
    assert counted.lost == {}


def test_a_stripped_program_keeps_its_exported_names(build: Build, leaks: Leaks) -> None:
    counted = leaks(build("leak.c", "-s", "-rdynamic"))
    assert counted.table == LEAK
    assert counted.lost == {}


@pytest.mark.parametrize("preloaded", [JEMALLOC, TCMALLOC], ids=str)
def test_another_allocator_preloaded(build: Build, leaks: Leaks, preloaded: Preloaded) -> None:
    """The C library's malloc is mapped as well, and never called."""
    counted = leaks(build("leak.c"), LD_PRELOAD=str(preloaded.path()))
    assert counted.own == LEAK
    assert counted.lost == {}


@pytest.mark.parametrize("preloaded", [JEMALLOC, TCMALLOC], ids=str)
def test_what_another_allocator_serves_without_malloc_is_said(
    build: Build, closing: Closing, preloaded: Preloaded
) -> None:
    with (
        Target([build("cxx.cpp")], {"LD_PRELOAD": str(preloaded.path())}) as target,
        closing.tracing(target) as tracer,
    ):
        report = report_on(tracer, target.go)
    stem = preloaded.library.partition(".")[0]
    assert any("new and delete" in note and stem in note for note in report.notes), report.notes


def test_a_program_with_an_allocator_of_its_own(build: Build, leaks: Leaks) -> None:
    counted = leaks(build("own_malloc.c"))
    assert counted.own == {"taken_from_arena": Row(3, 0, 300), "given_back_to_arena": Row(1, 1, 0)}
    assert counted.lost == {}


def test_a_32_bit_program_is_refused(build: Build) -> None:
    try:
        program = build("leak.c", "-m32")
    except CompilationError as error:
        pytest.skip(f"no 32-bit programs can be built: apt-get install gcc-multilib ({str(error).splitlines()[-1]})")
    with Target([program]) as target:
        assert "32-bit" in refusal(target)


def test_another_mount_and_pid_namespace(build: Build, leaks: Leaks, tmp_path: Path, allow_session: bool) -> None:
    """In a root directory of its own, with its own copy of the C library, and another pid there than here."""
    program = build("leak.c")
    for path in (program, *libraries_of(program)):
        inside = tmp_path / ("leak" if path == program else path.relative_to("/"))
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, inside)
    command = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "chroot", tmp_path, "/leak")
    counted = leaks(*command, inside=True, allow_session=allow_session)
    assert counted.table == LEAK
    assert counted.lost == {}


def test_a_c_library_that_was_replaced_while_mapped(
    build: Build, closing: Closing, tmp_path: Path, allow_session: bool
) -> None:
    """As an upgrade does it: under the name there is another file by now, and not even a library."""
    mapped, other = tmp_path / "libc.so.6", tmp_path / "new"
    shutil.copy(next(path for path in libraries_of(build("leak.c")) if path.name == mapped.name), mapped)
    other.write_text("not a library\n")
    with Target([build("leak.c", f"-Wl,-rpath,{tmp_path}")]) as target:
        other.replace(mapped)
        assert f"{mapped} (deleted)" in Path(f"/proc/{target.pid}/maps").read_text()
        with closing.tracing(target, allow_session=allow_session) as tracer:
            target.go()
            counted = count(tracer)
    assert counted.table == LEAK
    assert counted.lost == {}
