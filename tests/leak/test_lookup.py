"""Lookups in the cache, also while it refreshes."""

from __future__ import annotations

import itertools
import sys
import threading
import time

import pytest
from catalog_cache import MIB, CatalogCache

from tests.leak.caches import CHUNK, SHARDS, at_once, filled
from tests.support.waiting import LIMIT_SECONDS, wait_until


class TestLookup:
    def test_the_newest_revision_of_every_item_is_found_either_way(self) -> None:
        with CatalogCache(at_once(cap_bytes=10 * MIB + 3 * CHUNK)) as cache:
            filled(cache)
            # Ten whole refreshes and, of the eleventh, the first three shards.
            expected = [11 if item % SHARDS < 3 else 10 for item in range(100)]
            assert [cache.lookup(item) for item in range(100)] == expected
            assert [cache.lookup(item, all_revisions=True) for item in range(100)] == expected

    def test_an_item_is_a_whole_number_of_64_bits(self) -> None:
        with CatalogCache(at_once()) as cache:
            with pytest.raises(ValueError, match="item is -1: it must be 0 or more"):
                cache.lookup(-1)
            with pytest.raises(OverflowError):
                cache.lookup(2**64)
            assert cache.lookup(2**64 - 1) == 0

    def test_eight_threads_look_up_while_it_refreshes(self) -> None:
        """No thread sees a revision go back, or one that is not there yet."""
        wrong: list[str] = []
        with CatalogCache(at_once(chunk_bytes=4096, cap_bytes=256 * MIB)) as cache:
            stop = threading.Event()

            def read(item: int) -> None:
                seen = 0
                for round_ in itertools.count():
                    done = cache.ledger().refreshes
                    revision = cache.lookup(item, all_revisions=round_ % 8 == 0)
                    if not max(seen, done) <= revision <= cache.ledger().refreshes + 1:
                        wrong.append(f"item {item}: {revision} after {seen}, with {done} refreshes done")
                    seen = revision
                    if stop.is_set():
                        return

            readers = [threading.Thread(target=read, args=(item,)) for item in range(8)]
            cache.start()
            for reader in readers:
                reader.start()
            wait_until(lambda: cache.ledger().refreshes >= 100, "a hundred refreshes")
            stop.set()
            for reader in readers:
                reader.join(30)
            assert not any(reader.is_alive() for reader in readers)
            assert cache.ledger().bytes_live < 256 * MIB, "the cap must not have ended the refreshes"
        assert wrong == []

    def test_the_gil_is_released(self) -> None:
        """With a switch interval of an hour another thread runs only if the lookup lets it."""
        with CatalogCache(at_once(cap_bytes=128 * MIB)) as cache:
            filled(cache)
            ran: list[bool] = []
            go = threading.Lock()
            go.acquire()

            def other() -> None:
                with go:
                    ran.append(True)

            interval = sys.getswitchinterval()
            sys.setswitchinterval(3600)
            try:
                thread = threading.Thread(target=other)
                thread.start()  # returns when the other thread waits for the lock: it gives up the GIL nowhere before
                go.release()
                deadline = time.monotonic() + LIMIT_SECONDS
                while not ran:  # a walk of about a millisecond each: the other thread has to wake up in one
                    assert time.monotonic() < deadline, "the other thread never ran"
                    cache.lookup(0, all_revisions=True)
            finally:
                sys.setswitchinterval(interval)
            thread.join(10)

    def test_a_walk_takes_longer_the_more_is_held(self) -> None:
        def best(cache: CatalogCache) -> float:
            times = []
            for _ in range(20):
                started = time.perf_counter()
                cache.lookup(0, all_revisions=True)
                times.append(time.perf_counter() - started)
            return min(times)

        with CatalogCache(at_once(cap_bytes=8 * MIB)) as little, CatalogCache(at_once(cap_bytes=128 * MIB)) as much:
            filled(little)
            filled(much)
            assert best(much) > 5 * best(little), "sixteen times as much is walked"
