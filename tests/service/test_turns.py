from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from service import turns as turns_module
from service.turns import JOBS_A_TURN, JOBS_UNDER_PRESSURE, Turns

if TYPE_CHECKING:
    from collections.abc import Callable


def note(order: list[Any], what: object) -> bool:
    order.append(what)
    return True


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("the jobs are not done")


def test_listeners_are_served_in_turn_whatever_one_of_them_has_waiting() -> None:
    async def serve() -> list[str]:
        order: list[str] = []
        turns = Turns(asyncio.get_running_loop(), listeners=3, most=1000)
        for number in range(500):
            assert turns.arrive(0, partial(note, order, f"new {number}"))
            turns.again(0, partial(note, order, f"again {number}"))
        turns.arrive(1, partial(note, order, "metrics"))
        turns.again(2, partial(note, order, "ledger"))
        await until(lambda: len(order) == 1002)
        return order

    order = asyncio.run(serve())
    assert order.index("metrics") < 6
    assert order.index("ledger") < 6
    assert [each for each in order if each.startswith("new")] == [f"new {number}" for number in range(500)]
    assert abs(order.index("new 400") - order.index("again 400")) < 6


def test_other_work_of_the_loop_comes_between_the_turns() -> None:
    async def serve() -> int:
        done: list[int] = []
        turns = Turns(asyncio.get_running_loop(), listeners=1, most=1000)
        for number in range(1000):
            turns.arrive(0, partial(note, done, number))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return len(done)

    assert asyncio.run(serve()) <= 2 * JOBS_A_TURN


def test_a_queue_of_newcomers_is_bounded_and_the_others_are_not_affected() -> None:
    async def serve() -> list[str]:
        order: list[str] = []
        turns = Turns(asyncio.get_running_loop(), listeners=2, most=2)
        took = [turns.arrive(0, partial(note, order, f"{number}")) for number in range(4)]
        assert took == [True, True, False, False]
        assert turns.arrive(1, partial(note, order, "other"))
        await until(lambda: len(order) == 3)
        assert turns.arrive(0, partial(note, order, "later"))
        await until(lambda: len(order) == 4)
        return order

    assert asyncio.run(serve()) == ["0", "other", "1", "later"]


def test_under_pressure_few_jobs_are_begun_and_none_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "PAUSE_SECONDS", 0.0001)

    async def serve() -> list[int]:
        begun: list[int] = []
        together: list[int] = []
        turns = Turns(asyncio.get_running_loop(), listeners=1, most=100, pressed=lambda: True)
        for number in range(10):
            turns.arrive(0, partial(note, begun, number))
        while len(begun) < 10:
            before = len(begun)
            await asyncio.sleep(0)
            together.append(len(begun) - before)
        assert begun == list(range(10))
        return together

    assert max(asyncio.run(serve())) <= JOBS_UNDER_PRESSURE


def test_what_turns_out_to_be_no_work_does_not_count() -> None:
    async def serve() -> list[int]:
        order: list[int] = []
        turns = Turns(asyncio.get_running_loop(), listeners=1, most=100, pressed=lambda: True)

        def gone(number: int) -> bool:
            order.append(number)
            return False

        for number in range(50):
            turns.arrive(0, partial(gone, number))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return order

    assert asyncio.run(serve()) == list(range(50))
