from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from catalog_cache import MIB, CatalogCache, Options

from tests.support.waiting import LIMIT_SECONDS, wait_until

CHUNK = 65_536
SHARDS = 16


def at_once(**others: float) -> Options:
    return Options(**({"start_delay_seconds": 0, "period_seconds": 0.001} | others))  # type: ignore[arg-type]


def refresh_threads() -> int:
    return sum(
        task.read_text() == "cache-refresh\n" for task in Path("/proc/self/task").glob("*/comm") if task.exists()
    )


def filled(cache: CatalogCache) -> None:
    """Refresh until the cap holds no further entry."""
    cap, chunk = cache.options.cap_bytes, cache.options.chunk_bytes
    cache.start()
    wait_until(lambda: cache.ledger().bytes_live + chunk > cap, "the cache fills to its cap")
    cache.stop()


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


def pagesize() -> int:
    return int(subprocess.run(["getconf", "PAGESIZE"], capture_output=True, text=True, check=True).stdout)


def in_a_process_of_its_own(script: str) -> dict[str, int]:
    """Run a script that leaves its findings in `result`."""
    lines = [line.removeprefix(" " * 12) for line in script.splitlines()]
    source = "\n".join([*lines, "import json", "print(json.dumps(result))"])
    ended = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stderr
    result: dict[str, int] = json.loads(ended.stdout)
    return result


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
