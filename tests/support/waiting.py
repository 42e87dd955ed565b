"""Waiting for something to become true, with an end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# Longer than anything takes that works, also with twenty busy processes beside it on two processors.
LIMIT_SECONDS = 120.0
SHORTEST_INTERVAL_SECONDS, LONGEST_INTERVAL_SECONDS = 0.001, 0.05


def wait_until(condition: Callable[[], T], what: str, seconds: float = LIMIT_SECONDS) -> T:
    """Ask until the answer is true, less and less often; returns that answer. Fails after a time with the last one."""
    deadline = time.monotonic() + seconds
    interval = SHORTEST_INTERVAL_SECONDS
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}; last: {answer!r}"
        time.sleep(interval)
        interval = min(interval * 1.1, LONGEST_INTERVAL_SECONDS)
    return answer
