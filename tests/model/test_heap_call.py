"""The state machine against random threads: every call is counted once, at its own return, or is counted as lost."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Protocol, cast

import pytest
from cffi import FFI

from tests.model.kernel import MEMORY_START, TRAMPOLINE, WORD
from tests.model.simulation import LIBC, OWN_STACK, PROGRAM, WRAPPER, Model, Thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.model.simulation import Outcome

HERE = Path(__file__).parent
HEADERS = HERE.parents[1] / "native" / "trace" / "src"
SEQUENCES = 100_000
SEEDS = 10
MOST_PENDING = 4  # HEAP_MAX_PENDING


class Library(Model, Protocol):
    """heap_model.c, with what a test sets and reads."""

    own_stack_start: int
    own_stack_end: int
    lost_returns: int
    lost_nested: int
    lost_declined: int
    allocators: list[Sequence[int]]

    def model_reset(self) -> None: ...

    def model_depth(self) -> int: ...


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The header compiled for user space."""
    library = tmp_path_factory.mktemp("model") / "heap_model.so"
    command = ["cc", "-std=gnu17", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", f"-I{HEADERS}", "-o", str(library)]
    subprocess.run([*command, str(HERE / "heap_model.c")], check=True)
    ffi = FFI()
    ffi.cdef(
        """
        extern uint64_t memory[8192], own_stack_start, own_stack_end, lost_returns, lost_nested, lost_declined;
        extern uint64_t allocators[2][2];
        void model_reset(void);
        int model_enter(uint64_t, uint64_t, uint64_t, uint32_t, uint64_t, int);
        uint64_t model_leave(uint64_t, uint32_t, int);
        uint32_t model_depth(void);
        """
    )
    return cast("Library", ffi.dlopen(str(library)))


def run(model: Library, seed: int, *, session: bool) -> tuple[Outcome, int]:
    """One random sequence: what happened, and how many events the model says it has lost."""
    model.model_reset()
    model.own_stack_start, model.own_stack_end = OWN_STACK
    model.allocators[0], model.allocators[1] = (LIBC.start, LIBC.end), (WRAPPER.start, WRAPPER.end)
    outcome = Thread(model, Random(seed), session=session).run()
    return outcome, model.lost_returns + model.lost_nested + model.lost_declined


def check(outcome: Outcome, lost: int) -> None:
    assert outcome.wrong == []
    assert outcome.counted <= outcome.returned
    missed = outcome.returned - outcome.counted
    assert len(missed) <= lost, f"{len(missed)} calls are missing and {lost} are said to be"


@pytest.mark.parametrize("part", range(SEEDS))
def test_every_call_is_counted_at_its_own_return_or_is_lost_and_no_thread_is_killed(model: Library, part: int) -> None:
    killed = counted = returned = 0
    for seed in range(part * SEQUENCES // SEEDS, (part + 1) * SEQUENCES // SEEDS):
        outcome, lost = run(model, seed, session=True)
        check(outcome, lost)
        killed += outcome.killed
        counted += len(outcome.counted)
        returned += len(outcome.returned)
    assert killed == 0
    # The sequences are worth something: most calls count, and some cannot.
    assert 0.7 * returned < counted < returned


def test_without_the_rule_against_it_threads_would_be_killed(model: Library) -> None:
    """Where every probed entry asks for its return, as separate return probes do, the kernel drops pending ones."""
    outcomes = [run(model, seed, session=False)[0] for seed in range(1000)]
    assert any(outcome.killed for outcome in outcomes)


def test_a_return_of_none_of_as_many_calls_as_can_be_pending_leaves_them_all(model: Library) -> None:
    """One that was under way when the trace began, while handlers interrupt each other."""
    model.model_reset()
    stack = [MEMORY_START + WORD * word for word in range(1000, 1000 - MOST_PENDING, -1)]
    for call, sp in enumerate(stack, 1):
        assert model.model_enter(sp, PROGRAM, TRAMPOLINE, call, call, False)
        model.memory[(sp - MEMORY_START) // WORD] = TRAMPOLINE
    assert model.model_leave(stack[0] + 8, 1, True) == 0
    assert model.model_depth() == MOST_PENDING
    for call, sp in reversed(list(enumerate(stack, 1))):
        assert model.model_leave(sp, call, True) == call
    assert model.model_depth() == model.lost_returns == 0
