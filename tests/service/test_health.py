from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from service.claims import Claims
from service.health import Status, assess, report

AT_EASE = Claims(
    heap_bytes=15_500_000,
    resident_bytes=32_000_000,
    virtual_bytes=37_000_000,
    memory_usage_percent=0.5774,
    resident_percent=1.19,
    gc_collections=77,
    gc_uncollectable=0,
    uptime_seconds=12.34567,
)


def test_a_service_at_ease_is_healthy_in_every_check() -> None:
    health = assess(AT_EASE)
    assert health.status is Status.HEALTHY
    assert health.alive
    assert health.checks == {"memory": "normal", "resident_memory": "normal", "gc": "healthy"}
    assert health.message == "All systems operational."


@pytest.mark.parametrize(
    ("change", "check", "result", "status"),
    [
        ({"memory_usage_percent": 79.9}, "memory", "normal", Status.HEALTHY),
        ({"memory_usage_percent": 80.0}, "memory", "high", Status.DEGRADED),
        ({"memory_usage_percent": 95.0}, "memory", "critical", Status.UNHEALTHY),
        ({"resident_percent": 79.9}, "resident_memory", "normal", Status.HEALTHY),
        ({"resident_percent": 80.0}, "resident_memory", "high", Status.DEGRADED),
        ({"resident_percent": 95.0}, "resident_memory", "critical", Status.UNHEALTHY),
        ({"gc_uncollectable": 99}, "gc", "healthy", Status.HEALTHY),
        ({"gc_uncollectable": 100}, "gc", "leaking", Status.DEGRADED),
    ],
)
def test_a_claim_that_crosses_its_threshold_turns_its_check_and_the_status(
    change: dict[str, float], check: str, result: str, status: Status
) -> None:
    health = assess(replace(AT_EASE, **change))  # type: ignore[arg-type]
    assert health.checks[check] == result
    assert health.status is status
    assert health.alive is (status is not Status.UNHEALTHY)
    others = {name: value for name, value in health.checks.items() if name != check}
    assert set(others.values()) <= {"normal", "healthy"}


def test_the_worst_check_decides_and_every_reason_is_named() -> None:
    health = assess(replace(AT_EASE, memory_usage_percent=96.0, gc_uncollectable=500))
    assert health.status is Status.UNHEALTHY
    assert health.message == "The heap is at 96.0 % of the limit; 500 objects cannot be collected."


def test_the_report_has_every_part() -> None:
    body = report(AT_EASE, now=lambda: datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC))
    assert body == {
        "status": "healthy",
        "timestamp": "2026-01-02T03:04:05.678Z",
        "metrics": {
            "memory_usage_percent": 0.58,
            "heap_bytes": 15_500_000,
            "resident_memory_bytes": 32_000_000,
            "virtual_memory_bytes": 37_000_000,
            "gc_collections": 77,
            "gc_uncollectable_objects": 0,
            "uptime_seconds": 12.346,
        },
        "health_checks": {"memory": "normal", "resident_memory": "normal", "gc": "healthy"},
        "message": "All systems operational.",
    }
