"""What the service believes about itself: the view of instrumentation that lives inside a managed runtime.

Each figure is computed from the interpreter's own counts, and none of them contains the C heap.
docs/ARCHITECTURE.md says which of them mislead, and why.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Claims", "RuntimeView"]

KIB = 1024
STATM = Path("/proc/self/statm")

# The interpreter counts its live blocks at no cost and does not keep their sizes. A census of every object of a started
# service (sys.getsizeof over all that gc.get_objects reaches) finds 14.3 MiB in 125,000 blocks on CPython 3.11: 120
# bytes for each. The census itself takes 0.2 s and 10 MiB, so it is a test's and not the service's.
MEAN_BLOCK_BYTES = 120


@dataclass(frozen=True)
class Claims:
    """One reading: bytes, percent of the memory limit, counts since the start, seconds."""

    heap_bytes: int
    resident_bytes: int
    virtual_bytes: int
    memory_usage_percent: float
    resident_percent: float
    gc_collections: int
    gc_uncollectable: int
    uptime_seconds: float


def _sizes(statm: Path) -> tuple[int, int]:
    """Virtual and resident bytes of this process; without /proc, for both, the most that has been resident."""
    try:
        virtual, resident = map(int, statm.read_text().split()[:2])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
        return most, most
    return virtual * resource.getpagesize(), resident * resource.getpagesize()


class RuntimeView:
    """Reads `Claims`. Make it when the service has started: the sizes at start are read here, once.

    Memory is the interpreter's heap. Resident and virtual memory are the kernel's figures at the start plus the growth
    of that heap since: a reading cached at start, which is a bug that real services ship.
    """

    def __init__(
        self,
        limit_bytes: int,
        *,
        statm: Path = STATM,
        clock: Callable[[], float] = time.monotonic,
        allocated_blocks: Callable[[], int] = sys.getallocatedblocks,
        gc_stats: Callable[[], Sequence[dict[str, Any]]] = gc.get_stats,
    ) -> None:
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._allocated_blocks = allocated_blocks
        self._gc_stats = gc_stats
        self._started = clock()
        self._virtual_at_start, self._resident_at_start = _sizes(statm)
        self._heap_at_start = self._heap_bytes()

    def read(self) -> Claims:
        """Read every figure: microseconds, whatever the size of the process."""
        heap = self._heap_bytes()
        growth = heap - self._heap_at_start
        resident = max(0, self._resident_at_start + growth)
        generations = self._gc_stats()
        return Claims(
            heap_bytes=heap,
            resident_bytes=resident,
            virtual_bytes=max(0, self._virtual_at_start + growth),
            memory_usage_percent=100 * heap / self._limit_bytes,
            resident_percent=100 * resident / self._limit_bytes,
            gc_collections=sum(generation["collections"] for generation in generations),
            gc_uncollectable=sum(generation["uncollectable"] for generation in generations),
            uptime_seconds=self._clock() - self._started,
        )

    def _heap_bytes(self) -> int:
        return self._allocated_blocks() * MEAN_BLOCK_BYTES
