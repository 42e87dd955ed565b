"""The items of the catalog, and their lookup in the cache."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog_cache import CatalogCache

    from service.schedule import Schedule

__all__ = ["ITEMS", "HungUpError", "Item", "Lookups", "UnavailableError", "make_item"]

ITEMS = 1_000_000

# While walks are as short as this they are done on the event loop. The way to a thread and back costs more, and on an
# idle machine more than the rest of the request: a lookup's p95 was 0.3 ms without it, 1 to 3 ms with it.
INLINE_SECONDS = 0.0002
# Longer ones go to a thread. They are C code without the GIL, so they do run side by side and beside the event loop.
# Two threads leave the loop its share of two cores: /health in a burst of lookups had a p99 of 5 ms, and 22 with four.
LOOKUP_THREADS = 2
# At 10 ms a lookup this is five seconds of work: later ones are refused at once rather than kept waiting.
LOOKUPS_WAITING = 1000
START_SECONDS = 1.0

MATERIALS = ("Ash", "Brass", "Clay", "Copper", "Glass", "Iron", "Linen", "Oak", "Slate", "Wool")
THINGS = ("basket", "bench", "bowl", "chair", "clock", "frame", "lamp", "shelf", "tray", "vase")


class HungUpError(Exception):
    """The client has gone before its lookup began."""


class UnavailableError(Exception):
    """A lookup that cannot be done now: the text says why."""


@dataclass(frozen=True)
class Item:
    """An item as a client sees it. The price moves a little with each revision of the catalog."""

    id: int
    name: str
    price_cents: int
    revision: int


def make_item(number: int, revision: int) -> Item:
    """Item ``number`` (0 to 999,999) as of a revision of the catalog."""
    series, kind = divmod(number, len(MATERIALS) * len(THINGS))
    material, thing = divmod(kind, len(THINGS))
    return Item(
        id=number,
        name=f"{MATERIALS[material]} {THINGS[thing]} no. {series}",
        price_cents=500 + (number * 7919 + revision * 31) % 20_000,
        revision=revision,
    )


class Lookups:
    """Lookups in the cache. Long ones run in a bounded pool of threads, so that the event loop stays free for probes.

    From the degraded phase on a lookup walks the revisions that should have been dropped: it slows down because of
    what leaked, and only because of that. Without a leak every phase is as fast as the first.
    """

    def __init__(self, cache: CatalogCache, schedule: Schedule, clock: Callable[[], float] = time.perf_counter) -> None:
        self._cache = cache
        self._schedule = schedule
        self._pool = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookup")
        self._clock = clock
        self._closed = False
        self._waiting = 0
        self._last_walk_seconds = 0.0

    def start(self) -> None:
        """Start the threads now, while there is memory for their stacks, and not with the first lookups.

        Raises:
            RuntimeError: the system gives no thread.
        """
        # Each waits for the others, so that none does the work of two; not for long, where one cannot be started.
        started = threading.Barrier(LOOKUP_THREADS, timeout=START_SECONDS)
        for _ in range(LOOKUP_THREADS):
            self._pool.submit(started.wait)

    async def item(self, number: int, hung_up: Callable[[], bool] = bool) -> Item:
        """Look one item up. ``hung_up`` says, in any thread, whether the client has gone.

        Raises:
            HungUpError: it had, when the lookup's turn came: nothing was walked.
            UnavailableError: `LOOKUPS_WAITING` lookups are under way already, or the service stops.
        """
        if not self._schedule.degraded:
            return make_item(number, self._cache.lookup(number))
        if self._last_walk_seconds <= INLINE_SECONDS:
            return make_item(number, self._walk(number))
        if hung_up():
            raise HungUpError
        if self._waiting >= LOOKUPS_WAITING:
            raise UnavailableError("too many lookups are waiting")
        if self._closed:
            raise UnavailableError("the service stops")
        self._waiting += 1
        try:
            revision = await asyncio.get_running_loop().run_in_executor(self._pool, self._walk_for, number, hung_up)
        except asyncio.CancelledError:
            if self._closed:
                raise UnavailableError("the service stops") from None
            raise
        finally:
            self._waiting -= 1
        return make_item(number, revision)

    def close(self) -> None:
        """Refuse the lookups that have not begun, and return without waiting for those that have."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _walk_for(self, number: int, hung_up: Callable[[], bool]) -> int:
        if hung_up():
            raise HungUpError
        return self._walk(number)

    def _walk(self, number: int) -> int:
        started = self._clock()
        revision = self._cache.lookup(number, all_revisions=True)
        self._last_walk_seconds = self._clock() - started
        return revision
