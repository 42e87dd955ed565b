"""The ledger's counts: against each other, the clock and the kernel."""

from __future__ import annotations

import itertools
import time

import pytest
from catalog_cache import MIB, CatalogCache, Options

from tests.leak.caches import CHUNK, SHARDS, at_once, filled, in_a_process_of_its_own, pagesize
from tests.support.waiting import LIMIT_SECONDS, wait_until


class TestLedger:
    @pytest.mark.parametrize("chunk", [4096, CHUNK, MIB])
    def test_every_count_agrees_with_every_other(self, chunk: int) -> None:
        with CatalogCache(at_once(chunk_bytes=chunk, cap_bytes=20 * MIB)) as cache:
            filled(cache)
            ledger = cache.ledger()
            assert ledger.inserts_begun == ledger.inserts == ledger.entries_live == 20 * MIB // chunk
            assert ledger.insert_bytes == ledger.bytes_live == 20 * MIB

    def test_a_reading_beside_no_insert_agrees_with_itself_also_while_refreshing(self) -> None:
        with CatalogCache(at_once(chunk_bytes=4096)) as cache:
            cache.start()
            idle = 0
            while idle < 50:
                ledger = cache.ledger()
                assert ledger.inserts_begun - (ledger.inserts + ledger.insert_failures) >= 0
                if ledger.inserts_begun == ledger.inserts + ledger.insert_failures:
                    assert ledger.insert_bytes == ledger.inserts * 4096
                    idle += 1

    def test_idle_intervals_are_the_newest_and_do_not_overlap(self) -> None:
        with CatalogCache(at_once(cap_bytes=200 * MIB)) as cache:
            cache.start()
            wait_until(lambda: cache.ledger().refreshes >= 140, "more refreshes than intervals are kept")
            cache.stop()
            before = time.monotonic_ns()
            ledger = cache.ledger()
            intervals = ledger.idle_intervals
            assert len(intervals) == 128
            assert before <= intervals[0].until_ns <= time.monotonic_ns()
            assert (intervals[0].inserts, intervals[0].insert_bytes) == (ledger.inserts, ledger.insert_bytes)
            for newer, older in itertools.pairwise(intervals):
                assert older.since_ns < older.until_ns < newer.since_ns
                assert newer.inserts - older.inserts == SHARDS
                assert newer.insert_bytes - older.insert_bytes == MIB

    def test_refreshes_keep_to_the_schedule_and_do_not_drift(self) -> None:
        """Period and delay are divided by the speed, and counted from the start: late ones are not added up."""
        options = Options(period_seconds=2.0, start_delay_seconds=10.0, speed=100, cap_bytes=0)
        with CatalogCache(options) as cache:
            started = time.monotonic_ns()
            cache.start()
            wait_until(lambda: cache.ledger().refreshes >= 40, "forty refreshes")
            # Newest first, and the last was there before the start.
            begun = [idle.since_ns for idle in reversed(cache.ledger().idle_intervals)][1:41]
        late = [(at - started) / 1e9 - (0.1 + 0.02 * number) for number, at in enumerate(begun)]
        assert min(late) > -0.001, "a refresh came early"
        assert min(late[20:]) < 0.02, "later ones fall behind by more than a period"

    @pytest.mark.parametrize("chunk", [CHUNK, MIB])
    def test_the_ledger_is_the_growth_of_resident_memory(self, chunk: int) -> None:
        script = f"""
            from pathlib import Path
            import time
            from catalog_cache import MIB, CatalogCache, Options

            def resident():
                return int(Path("/proc/self/statm").read_text().split()[1]) * {pagesize()}

            options = Options(chunk_bytes={chunk}, cap_bytes=128 * MIB, start_delay_seconds=0, period_seconds=0.001)
            cache = CatalogCache(options)
            cache.ledger()
            before = resident()
            cache.start()
            while cache.ledger().bytes_live < 128 * MIB:
                time.sleep(0.01)
            cache.stop()
            grown = resident() - before
            live = cache.ledger().bytes_live
            cache.close()
            result = dict(live=live, grown=grown, kept=resident() - before)
        """
        result = in_a_process_of_its_own(script)
        assert result["live"] == 128 * MIB
        assert 0 <= result["grown"] - result["live"] < 0.03 * result["live"]
        assert result["kept"] < 0.05 * result["live"], "close gives back what the cache leaked"


def test_without_memory_inserts_fail_and_are_counted_and_with_memory_they_go_on() -> None:
    """One entry of 64 MiB fits below the limit of address space, and 32 MiB are left for the interpreter."""
    script = f"""
            from pathlib import Path
            import resource, time
            from catalog_cache import MIB, CatalogCache, Options

            def wait_for(condition):
                deadline = time.monotonic() + {LIMIT_SECONDS}
                while not condition():
                    assert time.monotonic() < deadline
                    time.sleep(0.001)

            options = Options(chunk_bytes=64 * MIB, refresh_bytes=64 * MIB, start_delay_seconds=0, period_seconds=0.005)
            cache = CatalogCache(options)
            cache.start()
            wait_for(lambda: cache.ledger().inserts == 1)
            size = int(Path("/proc/self/statm").read_text().split()[0]) * {pagesize()}
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (size + 32 * MIB, hard))
            before = cache.ledger().inserts
            wait_for(lambda: cache.ledger().insert_failures >= 3)
            without = cache.ledger()
            revision = cache.lookup(0)
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
            wait_for(lambda: cache.ledger().inserts > without.inserts)
            cache.stop()
            after = cache.ledger()
            result = dict(
                gained=without.inserts - before,
                failures=after.insert_failures,
                begun=after.inserts_begun,
                inserts=after.inserts,
                bytes=after.bytes_live,
                revision=revision,
                newest=cache.lookup(0),
                refreshes=after.refreshes,
            )
    """
    result = in_a_process_of_its_own(script)
    assert result["gained"] <= 1, "what was under way when the limit came may still have been inserted"
    assert result["failures"] >= 3
    assert result["begun"] == result["inserts"] + result["failures"]
    assert result["bytes"] == result["inserts"] * 64 * MIB
    assert result["refreshes"] == result["begun"]
    assert 1 <= result["revision"] < result["newest"] <= result["refreshes"]
