from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING

import pytest
from catalog_cache import MIB, CatalogCache, Options

from service import catalog
from service.catalog import HungUpError, Item, Lookups, UnavailableError
from service.schedule import Schedule
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOUR = 3600.0


class NotingCache(CatalogCache):
    """Notes the thread and the depth of each lookup; a gate can hold lookups up."""

    def __init__(self, cap_bytes: int) -> None:
        super().__init__(Options(start_delay_seconds=0, period_seconds=0.001, cap_bytes=cap_bytes))
        self.calls: list[tuple[str, bool]] = []
        self.gate = threading.Event()
        self.gate.set()

    def lookup(self, item: int, *, all_revisions: bool = False) -> int:
        self.calls.append((threading.current_thread().name, all_revisions))
        assert self.gate.wait(10)
        return super().lookup(item, all_revisions=all_revisions)


@pytest.fixture
def cache() -> Iterator[NotingCache]:
    with NotingCache(2 * MIB) as cache:
        cache.start()
        wait_until(lambda: cache.ledger().bytes_live == 2 * MIB, "the cache fills to its cap")
        cache.stop()
        yield cache


def at(elapsed: float) -> Schedule:
    times = iter([0.0])
    return Schedule(1.0, clock=lambda: next(times, elapsed))


def walks_taking(*seconds: float) -> Callable[[], float]:
    """A clock that is read before and after each walk."""
    readings = [reading for each in seconds for reading in (0.0, each)]
    return lambda: readings.pop(0)


def look_up(lookups: Lookups, times: int) -> list[int]:
    async def one_by_one() -> list[int]:
        return [(await lookups.item(number)).revision for number in range(times)]

    try:
        return asyncio.run(one_by_one())
    finally:
        lookups.close()


def test_before_the_degraded_phase_the_newest_revision_is_found_on_the_event_loop(cache: NotingCache) -> None:
    assert look_up(Lookups(cache, at(1799)), times=2) == [2, 2]
    assert cache.calls == [("MainThread", False)] * 2


def test_from_the_degraded_phase_on_every_revision_is_walked_and_long_walks_leave_the_event_loop(
    cache: NotingCache,
) -> None:
    for elapsed in (1800, 10 * HOUR):
        cache.calls.clear()
        assert look_up(Lookups(cache, at(elapsed), walks_taking(0.005, 0.005, 0.005)), times=3) == [2, 2, 2]
        assert cache.calls == [("MainThread", True), ("lookup_0", True), ("lookup_0", True)]


def test_without_a_leak_to_walk_the_degraded_phase_stays_on_the_event_loop(cache: NotingCache) -> None:
    clock = walks_taking(0.00001, 0.003, 0.00001, 0.00001)  # the second was merely interrupted
    look_up(Lookups(cache, at(1800), clock), times=4)
    threads = [thread for thread, _ in cache.calls]
    assert threads == ["MainThread", "MainThread", "lookup_0", "MainThread"]


def test_the_pool_is_bounded_and_what_is_too_much_is_refused(
    cache: NotingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "LOOKUPS_WAITING", 10)
    readings = itertools.count()
    lookups = Lookups(cache, at(1800), clock=lambda: next(readings) * 0.005)

    async def burst() -> None:
        await lookups.item(0)  # from here on walks are known to be long
        cache.calls.clear()
        cache.gate.clear()
        waiting = [asyncio.create_task(lookups.item(number)) for number in range(10)]
        await asyncio.sleep(0)  # each task runs up to its wait
        with pytest.raises(UnavailableError, match="too many lookups are waiting"):
            await lookups.item(11)
        assert len(cache.calls) <= catalog.LOOKUP_THREADS
        cache.gate.set()
        assert [item.id for item in await asyncio.gather(*waiting)] == list(range(10))
        assert (await lookups.item(11)).id == 11

    asyncio.run(burst())
    lookups.close()
    assert {name for name, _ in cache.calls} <= {f"lookup_{index}" for index in range(catalog.LOOKUP_THREADS)}


def test_closing_refuses_the_lookups_that_have_not_begun(cache: NotingCache) -> None:
    readings = itertools.count()
    lookups = Lookups(cache, at(1800), clock=lambda: next(readings) * 0.005)

    async def close_in_a_burst() -> list[Item | BaseException]:
        await lookups.item(0)  # from here on walks are known to be long
        cache.gate.clear()
        waiting = [asyncio.create_task(lookups.item(number)) for number in range(20)]
        await asyncio.sleep(0)  # each task runs up to its wait
        lookups.close()
        with pytest.raises(UnavailableError, match="the service stops"):
            await lookups.item(0)
        cache.gate.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    answers = asyncio.run(close_in_a_burst())
    refused = [answer for answer in answers if isinstance(answer, UnavailableError)]
    begun = [answer for answer in answers if isinstance(answer, Item)]
    assert len(refused) + len(begun) == 20
    assert len(begun) <= catalog.LOOKUP_THREADS


def test_a_lookup_whose_client_has_hung_up_by_its_turn_is_not_walked(cache: NotingCache) -> None:
    readings = itertools.count()
    lookups = Lookups(cache, at(1800), clock=lambda: next(readings) * 0.005)
    hung_up = threading.Event()

    async def hang_up_in_the_queue() -> list[Item | BaseException]:
        await lookups.item(0)  # from here on walks are known to be long
        cache.calls.clear()
        cache.gate.clear()
        waiting = [asyncio.create_task(lookups.item(number, hung_up.is_set)) for number in range(20)]
        await asyncio.sleep(0)  # each task runs up to its wait
        wait_until(lambda: len(cache.calls) == catalog.LOOKUP_THREADS, "the first have begun")
        hung_up.set()
        with pytest.raises(HungUpError):
            await lookups.item(21, hung_up.is_set)
        cache.gate.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    answers = asyncio.run(hang_up_in_the_queue())
    lookups.close()
    assert len(cache.calls) == catalog.LOOKUP_THREADS
    assert sum(isinstance(answer, HungUpError) for answer in answers) == 20 - catalog.LOOKUP_THREADS


def test_a_lookup_whose_client_has_gone_is_cancelled_as_such(cache: NotingCache) -> None:
    lookups = Lookups(cache, at(1800), walks_taking(0.005, 0.005))

    async def cancel() -> None:
        await lookups.item(0)
        cache.gate.clear()
        waiting = asyncio.create_task(lookups.item(1))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        cache.gate.set()

    asyncio.run(cancel())
    lookups.close()
