"""Whole stacks, by name and in order, of code that keeps no frame pointers."""

from __future__ import annotations

import platform
import shutil
from typing import TYPE_CHECKING, Protocol

import pytest
from heap_trace import MAX_FRAMES, Ending, HeapTrace, Kind, Probe, Signature, UnwindMode

from diagnosis.target.objects import read_object
from diagnosis.target.symbols import Symbolizer
from tests.support.waiting import wait_until
from tests.trace.tracing import NO_DEBUG_FILES, Target
from tests.trace.unwinding import unwinding

if TYPE_CHECKING:
    from pathlib import Path

    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing
    from tests.trace.unwinding import Named

pytestmark = [pytest.mark.root, pytest.mark.ebpf]


class StacksOf(Protocol):
    def __call__(self, source: str, *arguments: str) -> tuple[Named, ...]: ...


NO_FRAME_POINTERS = ("-g", "-fomit-frame-pointer")

# Call paths of unwound.c down to main, by the function that takes the memory.
PATHS = {
    "plain_leaf": ["plain_middle", "plain", "main"],
    "variable_leaf": ["variable", "main"],
    "realigned_leaf": ["realigned", "main"],
    "landed": ["jumper", "main"],
}
RECURSION = 20


@pytest.fixture(params=[UnwindMode.ON, UnwindMode.COMPARE], ids=["memo", "compare"])
def mode(request: pytest.FixtureRequest) -> UnwindMode:
    """With the memo's answers, and with a walk beside each of them."""
    mode = request.param
    assert isinstance(mode, UnwindMode)
    return mode


@pytest.fixture
def stacks_of(build: Build, closing: Closing, mode: UnwindMode) -> StacksOf:
    """`stacks_of("unwound.c", "20")`: the stacks of a program between its two stops."""

    def run(source: str, *arguments: str) -> tuple[Named, ...]:
        program = build(source, *NO_FRAME_POINTERS)
        with Target([program, *arguments]) as target, unwinding(target, closing, mode=mode) as unwinder:
            target.go()
            unwound = unwinder.trace.unwound()
            assert unwound.hits > 0
            assert unwound.mismatches == 0
            return unwinder.named()

    return run


def one(stacks: tuple[Named, ...], *names: str) -> Named:
    """The only stack that begins with these names."""
    found = [stack for stack in stacks if stack.names[: len(names)] == names]
    assert len(found) == 1, "\n".join(" < ".join(stack.names) for stack in stacks)
    return found[0]


def test_every_call_path_is_whole(stacks_of: StacksOf) -> None:
    stacks = stacks_of("unwound.c", str(RECURSION))

    assert {stack.ending for stack in stacks} == {Ending.START}
    for leaf, path in PATHS.items():
        stack = one(stacks, leaf)
        assert list(stack.names[1 : 1 + len(path)]) == path
        assert stack.allocations == 3
        assert stack.names[-1] == "_start"
    descent = one(stacks, "descent_end")
    assert descent.names[1 : RECURSION + 2] == ("descends",) * RECURSION + ("main",)


def test_the_caller_of_a_library_that_keeps_no_frame_pointer_is_there(stacks_of: StacksOf) -> None:
    stacks = stacks_of("unwound.c")

    for caller in ("in_strdup", "in_fopen"):
        stack = next(stack for stack in stacks if caller in stack.names)
        assert stack.names.index(caller) == 1
        assert stack.names[2:4] == ("through_libraries", "main")


@pytest.mark.parametrize(
    ("leaf", "handler", "interrupted"),
    [
        ("handler_leaf", "handler", "interrupted"),
        ("alternate_leaf", "on_alternate_stack", "interrupted_elsewhere"),
    ],
    ids=["same stack", "alternate stack"],
)
def test_a_signal_handlers_stack_goes_on_in_what_it_interrupted(
    stacks_of: StacksOf, leaf: str, handler: str, interrupted: str
) -> None:
    stack = one(stacks_of("unwound.c"), leaf, handler)

    assert stack.names[stack.names.index(interrupted) :][:2] == (interrupted, "main")
    assert stack.ending is Ending.START


def test_a_coroutine_and_a_thread_end_where_they_start(stacks_of: StacksOf) -> None:
    stacks = stacks_of("unwound.c")

    assert one(stacks, "coroutine_leaf").names[1] == "coroutine_body"
    assert one(stacks, "thread_leaf").names[1:3] == ("thread", "start_thread")
    assert {stack.ending for stack in stacks} == {Ending.START}


def test_what_is_deeper_than_there_is_room_for_is_cut_at_its_outer_end(stacks_of: StacksOf) -> None:
    stacks = stacks_of("unwound.c", str(MAX_FRAMES + 100))

    deep = one(stacks, "descent_end")
    assert deep.names[1:] == ("descends",) * (MAX_FRAMES - 1)
    assert deep.ending is Ending.TOO_DEEP
    assert {stack.ending for stack in stacks if stack is not deep} == {Ending.START}


def test_a_stack_that_just_fits_is_whole(stacks_of: StacksOf) -> None:
    shallow = one(stacks_of("unwound.c", "1"), "descent_end")
    levels = MAX_FRAMES - len(shallow.names) + 1

    fits = one(stacks_of("unwound.c", str(levels)), "descent_end")
    assert (len(fits.names), fits.ending) == (MAX_FRAMES, Ending.START)


def test_callers_of_operator_new_are_there(stacks_of: StacksOf) -> None:
    stacks = stacks_of("unwound.cpp")

    assert {stack.ending for stack in stacks} == {Ending.START}
    for function, allocations in {"takes_a_node()": 3, "grows_a_vector()": 3, "lambda_body": 3}.items():
        found = [stack for stack in stacks if any(name.startswith(function) for name in stack.names)]
        assert sum(stack.allocations for stack in found) >= allocations, function
        for stack in found:
            assert "operator new" in stack.names[0]
            assert any(name.startswith("main") for name in stack.names)  # or main.cold


def test_code_that_is_made_at_run_time_is_walked_by_frame_pointers(stacks_of: StacksOf) -> None:
    stack = one(stacks_of("unwound.c"), "generated_leaf")

    assert stack.names[2:4] == ("generated", "main")
    assert stack.ending is Ending.START


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its code is x86-64's")
def test_v8s_builtins_are_walked_by_frame_pointers_and_a_program_ends_at_its_entry(
    build: Build, closing: Closing, mode: UnwindMode
) -> None:
    program = build("entered.c", *NO_FRAME_POINTERS, "-nostartfiles")
    with Target([program]) as target, unwinding(target, closing, mode=mode) as unwinder:
        target.go()
        stack = one(unwinder.named(), "addon")
        assert unwinder.trace.unwound().mismatches == 0

    assert stack.names[1:5] == ("Builtins_Call", "Builtins_Enter", "runs_script", "main")
    assert stack.names[-1] == "_start"
    assert stack.ending is Ending.START


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its code is x86-64's")
def test_v8s_builtins_are_walked_where_their_names_are_stripped(
    build: Build, closing: Closing, mode: UnwindMode
) -> None:
    program = build("entered.c", *NO_FRAME_POINTERS, "-nostartfiles", "-rdynamic", "-Wl,--strip-all", name="stripped")
    with Target([program]) as target, unwinding(target, closing, mode=mode) as unwinder:
        target.go()
        stack = one(unwinder.named(), "addon")

    assert stack.names[3:5] == ("runs_script", "main")
    assert stack.names[-1] == "_start"
    assert stack.ending is Ending.START


# --- what is mapped later ---


@pytest.fixture
def late(build: Build) -> tuple[Path, Path]:
    """A program, and the library that it loads."""
    library = build("late_library.c", *NO_FRAME_POINTERS, "-shared", "-fPIC", name="late.so")
    return build("late_stack.c", *NO_FRAME_POINTERS), library


def test_a_library_that_was_loaded_late(late: tuple[Path, Path], closing: Closing) -> None:
    with Target([*late, "once"]) as target, unwinding(target, closing) as unwinder:
        assert not unwinder.tables.refresh_if_missing()
        target.go()
        before = one(unwinder.named(), "late_leaf")
        assert unwinder.tables.refresh_if_missing()
        assert not unwinder.tables.refresh_if_missing()
        target.go()
        after = one(unwinder.named(), "late_leaf")

    assert (before.names, before.ending) == (("late_leaf",), Ending.NOT_LOADED)
    assert (after.names[:3], after.ending) == (("late_leaf", "late_take", "main"), Ending.START)


def test_a_tracer_loads_what_a_process_loads(late: tuple[Path, Path], closing: Closing) -> None:
    with Target([*late, "loop"]) as target, closing.tracing(target) as tracer:
        target.start()

        def whole() -> bool:
            with Symbolizer(tracer.process, NO_DEBUG_FILES) as symbolizer:
                return any(
                    tracer.ending(stack) is Ending.START
                    and [frame.name for frame in symbolizer.symbolize(tracer.frames(stack)).frames][:2]
                    == ["late_leaf", "late_take"]
                    for stack in tracer.snapshot().counts
                )

        wait_until(whole, "a whole stack through the new library")


def test_a_library_that_was_written_anew_while_it_was_not_loaded(
    late: tuple[Path, Path], build: Build, closing: Closing, tmp_path: Path
) -> None:
    """Its file keeps its number, as a new one gets that of one that was removed."""
    program, library = late
    flags = (*NO_FRAME_POINTERS, "-fstack-protector-all", "-DFRAME_BYTES=2000")
    larger = build("late_library.c", *flags, "-shared", "-fPIC", name="larger.so")
    plugin = tmp_path / "plugin.so"
    shutil.copy(library, plugin)
    number = plugin.stat().st_ino
    with Target([program, plugin, "anew"]) as target, unwinding(target, closing) as unwinder:
        target.go()
        wait_until(unwinder.tables.refresh, "the library")
        target.go()
        before = one(unwinder.named(), "late_leaf")
        target.go()
        wait_until(unwinder.tables.refresh, "no library")
        shutil.copy(larger, plugin)
        assert plugin.stat().st_ino == number
        target.go()
        wait_until(unwinder.tables.refresh, "the other library")
        target.go()
        after = one(unwinder.named(), "late_leaf")

    for stack in (before, after):
        assert (stack.names[:3], stack.ending) == (("late_leaf", "late_take", "main"), Ending.START)


# --- other probes ---


def test_return_addresses_that_other_probes_have_replaced_are_put_back(
    build: Build, closing: Closing, mode: UnwindMode, allow_session: bool
) -> None:
    program = build("unwound.c", *NO_FRAME_POINTERS)
    elf = read_object(program, str(program), table=".symtab")
    with (
        Target([program]) as target,
        closing.later(HeapTrace(allow_session=allow_session)) as other,
        unwinding(target, closing, mode=mode, allow_session=allow_session) as unwinder,
    ):
        for name in ("plain", "plain_middle", "plain_leaf"):
            offset = elf.offset_of(elf.exports[name].address)
            assert offset is not None
            other.attach(target.pid, str(program), [Probe(Signature(Kind.ALLOCATE, size=1), offset)], [])
        target.go()
        stack = one(unwinder.named(), "plain_leaf")
        unwound = unwinder.trace.unwound()

    assert stack.names[1:4] == ("plain_middle", "plain", "main")
    assert stack.ending is Ending.START
    assert unwound.restored > 0
    assert unwound.mismatches == 0
