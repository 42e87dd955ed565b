from __future__ import annotations

import threading

import pytest
from catalog_cache import MIB, CatalogCache, Options

from tests.leak.caches import CHUNK, SHARDS, at_once, refresh_threads
from tests.support.waiting import wait_until


class TestLifeCycle:
    def test_a_new_cache_is_empty_and_has_no_thread(self) -> None:
        with CatalogCache(at_once()) as cache:
            ledger = cache.ledger()
            assert (ledger.inserts_begun, ledger.inserts, ledger.insert_failures, ledger.insert_bytes) == (0, 0, 0, 0)
            assert (ledger.entries_live, ledger.bytes_live, ledger.refreshes) == (0, 0, 0)
            assert cache.lookup(7) == cache.lookup(7, all_revisions=True) == 0
            assert refresh_threads() == 0

    def test_start_refreshes_from_a_thread_of_its_own_until_stop(self) -> None:
        with CatalogCache(at_once()) as cache:
            cache.start()
            wait_until(lambda: cache.ledger().refreshes >= 3, "three refreshes")
            assert refresh_threads() == 1
            cache.stop()
            assert refresh_threads() == 0
            before = cache.ledger()
            with CatalogCache(at_once()) as clock:
                clock.start()
                wait_until(lambda: clock.ledger().refreshes >= 20, "another cache of the same period refreshes")
            after = cache.ledger()
            assert (after.refreshes, after.inserts_begun) == (before.refreshes, before.inserts_begun)

    def test_a_restart_goes_on_where_it_stopped(self) -> None:
        with CatalogCache(at_once()) as cache:
            for _ in range(5):
                before = cache.ledger().refreshes
                cache.start()
                wait_until(lambda before=before: cache.ledger().refreshes > before, "a refresh")  # type: ignore[misc]
                cache.stop()
            ledger = cache.ledger()
            assert ledger.refreshes >= 5
            assert ledger.inserts == ledger.refreshes * SHARDS
            assert cache.lookup(0) == ledger.refreshes

    def test_starting_twice_is_an_error_and_stopping_twice_is_not(self) -> None:
        with CatalogCache(at_once()) as cache:
            cache.stop()
            cache.start()
            with pytest.raises(RuntimeError, match="running already: stop it first"):
                cache.start()
            cache.stop()
            cache.stop()

    def test_stop_does_not_wait_for_the_next_refresh(self) -> None:
        with CatalogCache(Options(start_delay_seconds=3600, period_seconds=3600)) as cache:
            cache.start()
            wait_until(lambda: refresh_threads() == 1, "the thread runs")
            cache.stop()
            assert refresh_threads() == 0, "it does not wait for the hour that is between two refreshes"

    def test_a_closed_cache_says_so(self) -> None:
        cache = CatalogCache(at_once())
        cache.start()
        cache.close()
        cache.close()
        assert refresh_threads() == 0
        for call in (cache.start, cache.stop, cache.ledger, lambda: cache.lookup(1)):
            with pytest.raises(RuntimeError, match="the catalog cache is closed"):
                call()

    def test_threads_may_start_and_stop_it_against_each_other(self) -> None:
        with CatalogCache(at_once(cap_bytes=MIB)) as cache:
            errors: list[BaseException] = []

            def quarrel() -> None:
                for _ in range(50):
                    try:
                        cache.start()
                    except RuntimeError:
                        pass
                    except OSError as error:
                        errors.append(error)
                    cache.stop()

            threads = [threading.Thread(target=quarrel) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert not errors
            cache.stop()
            assert refresh_threads() == 0


class TestCap:
    @pytest.mark.parametrize(
        ("cap", "held"),
        [
            (3 * MIB, 3 * MIB),
            (3 * MIB + 1, 3 * MIB),
            (3 * MIB - 1, 3 * MIB - CHUNK),
            (MIB + 5 * CHUNK + 100, MIB + 5 * CHUNK),
            (CHUNK, CHUNK),
            (CHUNK - 1, 0),
            (0, 0),
        ],
    )
    def test_the_cap_is_never_passed_and_reached_to_the_last_whole_entry(self, cap: int, held: int) -> None:
        with CatalogCache(at_once(cap_bytes=cap)) as cache:
            cache.start()
            wait_until(lambda: cache.ledger().refreshes >= 10, "more refreshes than the cap has room for")
            ledger = cache.ledger()
            assert ledger.bytes_live == ledger.insert_bytes == held
            assert ledger.inserts == ledger.inserts_begun == held // CHUNK
            assert ledger.insert_failures == 0
