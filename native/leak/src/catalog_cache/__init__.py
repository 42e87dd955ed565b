"""A catalog cache in C that a background thread keeps fresh, and never prunes.

The cache is the fault of the lab. Each refresh inserts a new revision of the catalog and forgets to free the one
before it; ``catalog_cache_refresh -> catalog_cache_insert -> malloc`` is the path a diagnosis has to find. Nothing of
it is visible to the Python interpreter: the memory belongs to the C heap.
"""

from __future__ import annotations

import errno
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from catalog_cache._catalog_cache import ffi, lib

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["MIB", "CatalogCache", "Ledger", "Options", "Quiet"]

KIB = 1024
MIB = 1024 * KIB
NANOSECONDS = 1_000_000_000

SMALLEST_CHUNK = 4 * KIB
LARGEST_REFRESH = 64 * MIB
LARGEST_CAP = 64 * 1024 * MIB
LONGEST_SECONDS = 86_400.0
FASTEST_SPEED = 1000.0


def _within(name: str, value: float, low: float, high: float, unit: str) -> None:
    if not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name} is {value}: it must be from {low} to {high} {unit}")


@dataclass(frozen=True)
class Options:
    """How the cache fills. The defaults are the lab's story: 1 MiB every 8 s, at most 2000 MiB.

    ``speed`` divides ``start_delay_seconds`` and ``period_seconds``: at 60 the story of an hour takes a minute.

    Raises:
        ValueError: an option is out of its range; the text names the option, its value and the range.
    """

    chunk_bytes: int = 64 * KIB
    refresh_bytes: int = MIB
    period_seconds: float = 8.0
    cap_bytes: int = 2000 * MIB
    start_delay_seconds: float = 30.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        _within("refresh_bytes", self.refresh_bytes, SMALLEST_CHUNK, LARGEST_REFRESH, "bytes")
        _within("chunk_bytes", self.chunk_bytes, SMALLEST_CHUNK, self.refresh_bytes, "bytes")
        if self.refresh_bytes % self.chunk_bytes:
            raise ValueError(
                f"chunk_bytes is {self.chunk_bytes}: it must divide refresh_bytes ({self.refresh_bytes}), "
                f"as powers of two from {SMALLEST_CHUNK} to {self.refresh_bytes} do"
            )
        _within("cap_bytes", self.cap_bytes, 0, LARGEST_CAP, "bytes")
        _within("period_seconds", self.period_seconds, 0.001, LONGEST_SECONDS, "seconds")
        _within("start_delay_seconds", self.start_delay_seconds, 0, LONGEST_SECONDS, "seconds")
        _within("speed", self.speed, 0.1, FASTEST_SPEED, "times real time")


@dataclass(frozen=True)
class Quiet:
    """A stretch of time without a refresh, in ns of CLOCK_MONOTONIC, and the counts that held throughout.

    Who counted the same inserts by other means at a moment in between has to have found the same numbers.
    """

    since_ns: int
    until_ns: int
    inserts: int
    insert_bytes: int


@dataclass(frozen=True)
class Ledger:
    """What the cache really allocated, exact to the byte, since it was opened.

    ``quiet_intervals`` are the last 128, newest first. While ``inserts_begun`` equals ``inserts + insert_failures`` no
    insert is under way.
    """

    inserts_begun: int
    inserts: int
    insert_failures: int
    insert_bytes: int
    entries_live: int
    bytes_live: int
    refreshes: int
    quiet_intervals: tuple[Quiet, ...] = ()

    @property
    def quiet(self) -> bool:
        """True when no insert was under way at the reading."""
        return self.inserts_begun == self.inserts + self.insert_failures


class CatalogCache:
    """The cache, its refresh thread and its ledger. Every method may be called from any thread.

    Use it as a context manager, or call `close`, which frees what the cache leaked.
    """

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        native = ffi.new(
            "struct catalog_options *",
            {
                "chunk_bytes": self.options.chunk_bytes,
                "refresh_bytes": self.options.refresh_bytes,
                "cap_bytes": self.options.cap_bytes,
                "start_delay_ns": int(self.options.start_delay_seconds / self.options.speed * NANOSECONDS),
                "period_ns": max(1, int(self.options.period_seconds / self.options.speed * NANOSECONDS)),
            },
        )
        self._cache = lib.catalog_cache_open(native)
        if not self._cache:
            raise MemoryError("no memory for the catalog cache itself")

    def start(self) -> None:
        """Start refreshing.

        Raises:
            RuntimeError: the cache is running or closed.
            OSError: the system gives no thread.
        """
        error = lib.catalog_cache_start(self._open())
        if error == errno.EALREADY:
            raise RuntimeError("the catalog cache is running already: stop it first")
        if error:
            raise OSError(error, f"the refresh thread did not start: {os.strerror(error)}")

    def stop(self) -> None:
        """Stop refreshing and wait for the thread to end. What was inserted stays, and a start goes on from there."""
        error = lib.catalog_cache_stop(self._open())
        if error:
            raise OSError(error, f"the refresh thread did not stop: {os.strerror(error)}")

    def lookup(self, item: int, *, all_revisions: bool = False) -> int:
        """The newest revision of the page that holds ``item``: 0 before the first refresh.

        With ``all_revisions`` every page of every revision still held is read, so that the time taken grows with the
        leak: about 0.1 microseconds a page of 4 KiB.
        """
        if item < 0:
            raise ValueError(f"item is {item}: it must be 0 or more")
        return int(lib.catalog_cache_lookup(self._open(), item, all_revisions))

    def ledger(self) -> Ledger:
        """One reading of the ledger."""
        native = ffi.new("struct catalog_ledger *")
        lib.catalog_cache_read_ledger(self._open(), native)
        quiet = ffi.new("struct catalog_quiet[]", lib.CATALOG_QUIET_KEPT)
        count = lib.catalog_cache_read_quiet(self._open(), quiet, lib.CATALOG_QUIET_KEPT)
        return Ledger(
            native.inserts_begun,
            native.inserts,
            native.insert_failures,
            native.insert_bytes,
            native.entries_live,
            native.bytes_live,
            native.refreshes,
            tuple(
                Quiet(each.since_ns, each.until_ns, each.inserts, each.insert_bytes)
                for each in (quiet[i] for i in range(count))
            ),
        )

    def close(self) -> None:
        """Stop, and free every entry. No lookup may be under way. Closing twice is fine."""
        cache, self._cache = self._cache, ffi.NULL
        lib.catalog_cache_close(cache)

    def _open(self) -> object:
        if not self._cache:
            raise RuntimeError("the catalog cache is closed")
        return self._cache

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
