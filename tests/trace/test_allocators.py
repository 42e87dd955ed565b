"""Allocators other than the C library's, by every function that they have: each block once, under who asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.target.custom_allocator import parse_allocator
from diagnosis.target.process import Process
from diagnosis.trace.tracer import Tracer, Tracing
from tests.support.allocator_libraries import JEMALLOC, MIMALLOC, PRELOADED, archive
from tests.support.waiting import wait_until
from tests.trace.tracing import Row, Target, count

if TYPE_CHECKING:
    from pathlib import Path

    from diagnosis.target.symbols import SymbolizedStack
    from tests.support.allocator_libraries import Preloaded
    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing, Counted

pytestmark = pytest.mark.ebpf

# What cxx.cpp's functions do. A pair of new and delete is the same row whichever form they have.
OPERATORS = {
    "new_kept": Row(3, 0, 3 * 72),
    "new_deleted": Row(3, 3, 0),
    "new_array_kept": Row(3, 0, 3 * 501),
    "new_array_deleted": Row(3, 3, 0),
    "new_aligned_kept": Row(3, 0, 3 * 256),
    "new_aligned_deleted": Row(3, 3, 0),
    "new_nothrow_kept": Row(3, 0, 3 * 72),
}

# By operators that an exception leaves, so that their exits are probed.
THROWING = ("new_kept", "new_deleted", "new_array_kept", "new_array_deleted")


class Run:
    """Runs a program from its first stop to its second under the trace."""

    def __init__(self, closing: Closing, allow_session: bool) -> None:
        self._closing, self._allow_session = closing, allow_session

    def __call__(self, *command: str | Path, preload: Preloaded | None = None) -> Counted:
        environment = {"LD_PRELOAD": str(preload.path())} if preload else {}
        with (
            Target(command, environment) as target,
            self._closing.tracing(target, allow_session=self._allow_session) as tracer,
        ):
            assert not [spot for allocator in tracer.allocators for spot in allocator.blind_spots]
            target.go()
            return count(tracer)


@pytest.fixture
def run(closing: Closing, allow_session: bool) -> Run:
    return Run(closing, allow_session)


def request(stack: SymbolizedStack) -> str:
    """The function of cxx.cpp that stands in `OPERATORS`."""
    return next((frame.name.removesuffix("()") for frame in stack.frames if frame.name[:-2] in OPERATORS), "")


@pytest.mark.parametrize("preloaded", PRELOADED, ids=str)
def test_new_and_delete_of_an_allocator_that_serves_them_itself(build: Build, run: Run, preloaded: Preloaded) -> None:
    """Also of an operator new that an exception leaves: mimalloc's, in C, ends the process instead."""
    counted = run(build("cxx.cpp"), *(["never fails"] if preloaded is MIMALLOC else []), preload=preloaded)
    assert counted.by(request) == OPERATORS
    assert counted.lost == {}


@pytest.mark.parametrize("preloaded", PRELOADED, ids=str)
def test_the_caller_of_an_operator_is_the_innermost_frame(build: Build, run: Run, preloaded: Preloaded) -> None:
    """At the `ret` of an operator new, and not the operator."""
    counted = run(build("cxx.cpp"), "never fails", preload=preloaded)
    plain = {"new_kept", "new_deleted", "new_array_kept", "new_array_deleted"}
    stacks = [stack for stack, _ in counted.stacks if request(stack) in plain]
    assert {stack.frames[0].name.removesuffix("()") for stack in stacks} == plain
    assert {stack.frames[1].name for stack in stacks} == {"main"}


def test_jemalloc_linked_into_a_program(build: Build, run: Run) -> None:
    """By the symbol table alone: the program exports none of it, and the C library is mapped as well."""
    flags = (str(archive("libjemalloc.a", "libjemalloc-dev")), "-lm", "-ldl")
    counted = run(build("cxx.cpp", *flags, name="cxx_static"))
    assert counted.by(request) == OPERATORS
    assert counted.lost == {}


def test_jemallocs_own_interface(build: Build, run: Run) -> None:
    counted = run(build("interfaces.c"), "jemalloc", preload=JEMALLOC)
    assert counted.own == {
        "jobs_end_sized": Row(5, 5, 0),
        "jobs_end": Row(5, 5, 0),
        "leaks_extended": Row(3, 0, 27000),
        "grows": Row(2, 1, 70000),
        "grows_in_place": Row(2, 1, 70 << 10),
    }
    assert counted.lost == {}


def test_mimallocs_own_interface(build: Build, run: Run) -> None:
    counted = run(build("interfaces.c"), "mimalloc", preload=MIMALLOC)
    assert counted.own == {
        "aligned": Row(2, 1, 700),
        "counted": Row(1, 0, 700),
        "heap_of_its_own": Row(3, 1, 11 * 20 + 500),
        "grows_by_pointer": Row(1, 1, 0),
        "copies": Row(3, 1, 3015),
        "fails_and_frees": Row(1, 1, 0),
        "destroyed_with_their_heap": Row(3, 0, 120),
        "left_by_its_heap": Row(1, 1, 0),
    }
    # What mimalloc's reallocarr has taken for its caller.
    moved = counted.by(lambda stack: "moved" if "grows_by_pointer" in {frame.name for frame in stack.frames} else "")
    assert moved == {"moved": Row(2, 1, 600)}
    assert counted.lost == {"DISCARDED": 1}


def test_an_allocator_behind_a_prefix_in_a_program_that_maps_the_c_library(build: Build, run: Run) -> None:
    counted = run(build("prefixed.c"))
    assert counted.own == {
        "boxes_kept": Row(4, 0, 12000),
        "vectors_dropped": Row(6, 6, 0),
        "c_library_kept": Row(1, 0, 100),
    }
    assert counted.lost == {}


PLUGIN = {"plugin_keeps": Row(3, 0, 3000), "plugin_gives_back": Row(1, 1, 0), "program_keeps": Row(1, 0, 200)}


def test_an_allocator_that_is_loaded_under_the_trace(build: Build, closing: Closing, allow_session: bool) -> None:
    plugin = build("plugin.c", "-shared", "-fPIC", "-s", name="libplugin.so")
    with (
        Target([build("late.c"), plugin]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        assert [allocator.name for allocator in tracer.allocators if "plugin" in allocator.name] == []
        assert target.go() == "loaded"
        wait_until(lambda: len(tracer.allocators) > 1, "the plugin's allocator is found")
        assert target.go() == "done"
        counted = count(tracer)
        late = tracer.allocators[-1]
    assert late.name == str(plugin)
    (spot,) = late.blind_spots
    assert "libplugin.so was loaded meanwhile: up to" in spot
    assert counted.own == PLUGIN
    assert counted.lost == {}


def test_an_allocator_that_the_user_names(build: Build, closing: Closing, allow_session: bool) -> None:
    functions = "alloc=pool_take:size=2,free=pool_give:ptr=2,realloc=pool_resize:ptr=2:size=3"
    with (
        Target([build("pool.c")]) as target,
        closing.tracing(target, allow_session=allow_session, custom=parse_allocator(functions)) as tracer,
    ):
        target.go()
        counted = count(tracer)
    assert counted.own == {
        "sessions_kept": Row(4, 0, 2800),
        "requests_given_back": Row(9, 9, 0),
        "buffers_grow": Row(2, 1, 5000),
        "main": Row(1, 0, 1),  # malloc's, as ever
    }
    assert counted.lost == {}


def test_a_function_that_the_user_misspelt_is_one_line(build: Build) -> None:
    with Target([build("pool.c")]) as target, pytest.raises(LabError) as caught:
        Tracer(Process(target.pid), Tracing(custom=parse_allocator("alloc=pool_take:size=2,free=pool_giv")))
    assert str(caught.value) == (
        f"no file that pid {target.pid} has mapped defines pool_giv: "
        "look the name up as the linker knows it: nm FILE, or nm -D FILE"
    )
