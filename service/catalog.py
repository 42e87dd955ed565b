"""The items of the catalog, and their lookup in the cache."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from catalog_cache import CatalogCache

    from service.schedule import Schedule

__all__ = ["ITEMS", "Item", "Lookups", "OverloadedError", "make_item"]

ITEMS = 1_000_000

# A lookup that reads no more than this is done on the event loop: 4 MiB are 50 microseconds. The way to a thread and
# back costs more, and on an idle machine more than the rest of the request: p95 was 0.3 ms without it, 1 to 3 ms with.
INLINE_BYTES = 4 * 1024 * 1024
# A longer one goes to a thread. It is C code without the GIL, so these do run side by side, and beside the event loop.
LOOKUP_THREADS = 4
# At 5 ms a lookup this is a few seconds of work: who comes later is told so at once rather than kept waiting.
LOOKUPS_WAITING = 1000

MATERIALS = ("Ash", "Brass", "Clay", "Copper", "Glass", "Iron", "Linen", "Oak", "Slate", "Wool")
THINGS = ("basket", "bench", "bowl", "chair", "clock", "frame", "lamp", "shelf", "tray", "vase")


class OverloadedError(Exception):
    """Too many lookups are waiting."""


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

    def __init__(self, cache: CatalogCache, schedule: Schedule) -> None:
        self._cache = cache
        self._schedule = schedule
        self._pool = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookup")
        self._waiting = 0

    async def item(self, number: int) -> Item:
        """Look one item up.

        Raises:
            OverloadedError: `LOOKUPS_WAITING` lookups are under way already.
        """
        degraded = self._schedule.degraded
        if not degraded or self._cache.ledger().bytes_live <= INLINE_BYTES:
            return make_item(number, self._cache.lookup(number, all_revisions=degraded))
        if self._waiting >= LOOKUPS_WAITING:
            raise OverloadedError
        self._waiting += 1
        try:
            walk = partial(self._cache.lookup, number, all_revisions=True)
            revision = await asyncio.get_running_loop().run_in_executor(self._pool, walk)
        finally:
            self._waiting -= 1
        return make_item(number, revision)

    def close(self) -> None:
        """Drop the lookups that have not begun and return without waiting for those that have."""
        self._pool.shutdown(wait=False, cancel_futures=True)
