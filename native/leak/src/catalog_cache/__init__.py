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
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from catalog_cache._catalog_cache import ffi, lib

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["MIB", "RANGES", "CatalogCache", "IdleInterval", "Ledger", "OptionError", "Options", "Range"]

KIB = 1024
MIB = 1024 * KIB
NANOSECONDS = 1_000_000_000
SMALLEST_CHUNK = 4 * KIB
LONGEST_SECONDS = 86_400.0


class Range(NamedTuple):
    """From ``low`` to ``high``, both included."""

    low: float
    high: float
    unit: str


class OptionError(ValueError):
    """An option that cannot be used: its name, its value, and what it must be."""

    def __init__(self, option: str, value: float, must: str) -> None:
        super().__init__(f"{option} is {value}: it must {must}")
        self.option = option
        self.value = value
        self.must = must


@dataclass(frozen=True)
class Options:
    """How the cache fills. The defaults are the lab's story: 1 MiB every 8 s, at most 2000 MiB.

    ``speed`` divides ``start_delay_seconds`` and ``period_seconds``: at 60 the story of an hour takes a minute.

    Raises:
        OptionError: an option is out of its range.
    """

    chunk_bytes: int = 64 * KIB
    refresh_bytes: int = MIB
    period_seconds: float = 8.0
    cap_bytes: int = 2000 * MIB
    start_delay_seconds: float = 30.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        for option, (low, high, unit) in {**RANGES, "chunk_bytes": chunk_range(self.refresh_bytes)}.items():
            value = getattr(self, option)
            if not math.isfinite(value) or not low <= value <= high:
                raise OptionError(option, value, f"be from {low} to {high} {unit}")
        if self.refresh_bytes % self.chunk_bytes:
            raise OptionError(
                "chunk_bytes",
                self.chunk_bytes,
                f"divide the {self.refresh_bytes} bytes of a refresh, as powers of two from {SMALLEST_CHUNK} to "
                f"{self.refresh_bytes} do",
            )


def chunk_range(refresh_bytes: int) -> Range:
    """What ``chunk_bytes`` may be with these ``refresh_bytes``, which it must also divide."""
    return Range(SMALLEST_CHUNK, refresh_bytes, "bytes")


# The range of each option: the one of ``chunk_bytes`` is that beside the default ``refresh_bytes``.
RANGES: Final = {
    "refresh_bytes": Range(SMALLEST_CHUNK, 64 * MIB, "bytes"),
    "chunk_bytes": chunk_range(MIB),
    "cap_bytes": Range(0, 64 * 1024 * MIB, "bytes"),
    "period_seconds": Range(0.001, LONGEST_SECONDS, "seconds"),
    "start_delay_seconds": Range(0, LONGEST_SECONDS, "seconds"),
    "speed": Range(0.1, 1000.0, "times real time"),
}


@dataclass(frozen=True)
class IdleInterval:
    """A time without a refresh, in ns of CLOCK_MONOTONIC, and the counts throughout it.

    Another counter of the same inserts, read at a moment in between, must show the same numbers.
    """

    since_ns: int
    until_ns: int
    inserts: int
    insert_bytes: int


@dataclass(frozen=True)
class Ledger:
    """What the cache really allocated, exact to the byte, since it was opened.

    ``idle_intervals`` are the last 128, newest first. While ``inserts_begun`` equals ``inserts + insert_failures`` no
    insert is under way.
    """

    inserts_begun: int
    inserts: int
    insert_failures: int
    insert_bytes: int
    entries_live: int
    bytes_live: int
    refreshes: int
    idle_intervals: tuple[IdleInterval, ...] = ()


class CatalogCache:
    """The cache, its refresh thread and its ledger.

    Every method but `close` may be called from any thread. `close` frees what the cache leaked, so no other method may
    be running then or be called later; the end of a ``with`` block calls it.
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
        idle = ffi.new("struct catalog_idle[]", lib.CATALOG_IDLE_KEPT)
        count = lib.catalog_cache_read_idle(self._open(), idle, lib.CATALOG_IDLE_KEPT)
        return Ledger(
            native.inserts_begun,
            native.inserts,
            native.insert_failures,
            native.insert_bytes,
            native.entries_live,
            native.bytes_live,
            native.refreshes,
            tuple(
                IdleInterval(each.since_ns, each.until_ns, each.inserts, each.insert_bytes)
                for each in (idle[i] for i in range(count))
            ),
        )

    def close(self) -> None:
        """Stop, and free every entry. No other method may be running in another thread. Closing twice is safe."""
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
