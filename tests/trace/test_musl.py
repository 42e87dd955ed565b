"""musl, whose code nothing describes: who called its functions that take memory is on the stack all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from heap_trace import Ending, UnwindMode

from tests.trace.tracing import Target
from tests.trace.unwinding import unwinding

if TYPE_CHECKING:
    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing
    from tests.trace.unwinding import Named

pytestmark = [pytest.mark.root, pytest.mark.ebpf]

# Functions of musl.c, and which of musl's took the memory for them.
CALLED = {"in_strdup": "strdup", "in_asprintf": "asprintf", "in_fopen": "fopen", "in_setenv": "setenv", "in_thread": ""}


@pytest.fixture(params=["dynamic", "static"])
def stacks(request: pytest.FixtureRequest, build: Build, closing: Closing) -> tuple[Named, ...]:
    """The stacks of the program between its two stops."""
    flags = ("-fomit-frame-pointer", *(("-static",) if request.param == "static" else ()))
    program = build("musl.c", *flags, compiler="musl-gcc", name=f"musl-{request.param}")
    with Target([program]) as target, unwinding(target, closing, mode=UnwindMode.COMPARE) as unwinder:
        target.go()
        assert unwinder.trace.unwound().mismatches == 0
        return unwinder.named()


@pytest.mark.parametrize("caller", CALLED)
def test_the_caller_of_musls_functions_is_there(stacks: tuple[Named, ...], caller: str) -> None:
    found = [stack for stack in stacks if caller in stack.names]
    assert found
    for stack in found:
        within = stack.names[: stack.names.index(caller)]
        assert CALLED[caller] in (*within, "") or caller == "in_setenv"  # setenv jumps to one without a name


def test_stacks_are_whole(stacks: tuple[Named, ...]) -> None:
    assert {stack.ending for stack in stacks} == {Ending.START}
    for stack in stacks:
        assert {"main", "thread"} & set(stack.names), stack.names
