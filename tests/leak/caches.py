"""Caches that leak at once, and processes of their own for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from catalog_cache import Options

from tests.support.waiting import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    from catalog_cache import CatalogCache

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
