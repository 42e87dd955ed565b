"""The verdict of the service on itself: thresholds over its claims."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.claims import Claims

__all__ = ["Health", "Status", "assess", "report"]

HIGH_PERCENT = 80.0
CRITICAL_PERCENT = 95.0
# Cycles that the collector cannot free stay until the process ends. Careless extension modules make a few; a hundred
# are a leak in the managed heap.
UNCOLLECTABLE_OBJECTS = 100


class Status(enum.StrEnum):
    """The whole service, from best to worst."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True)
class Health:
    """The status, the checks it comes from (name to result) and one sentence."""

    status: Status
    checks: Mapping[str, str]
    message: str

    @property
    def alive(self) -> bool:
        """False when a liveness probe ought to restart the process."""
        return self.status is not Status.UNHEALTHY


def _level(percent: float) -> tuple[str, Status]:
    if percent >= CRITICAL_PERCENT:
        return "critical", Status.UNHEALTHY
    if percent >= HIGH_PERCENT:
        return "high", Status.DEGRADED
    return "normal", Status.HEALTHY


def assess(claims: Claims) -> Health:
    """Judge one reading of the claims."""
    memory, memory_status = _level(claims.memory_usage_percent)
    resident, resident_status = _level(claims.resident_percent)
    gc_fails = claims.gc_uncollectable >= UNCOLLECTABLE_OBJECTS
    found = {
        "memory": (memory, memory_status, f"the heap is at {claims.memory_usage_percent:.1f} % of the limit"),
        "resident_memory": (
            resident,
            resident_status,
            f"resident memory is at {claims.resident_percent:.1f} % of the limit",
        ),
        "gc": (
            "leaking" if gc_fails else "healthy",
            Status.DEGRADED if gc_fails else Status.HEALTHY,
            f"{claims.gc_uncollectable} objects cannot be collected",
        ),
    }
    status = max((status for _, status, _ in found.values()), key=list(Status).index)
    reasons = [reason for _, own, reason in found.values() if own is not Status.HEALTHY]
    return Health(
        status=status,
        checks={name: result for name, (result, _, _) in found.items()},
        message="; ".join(reasons).capitalize() + "." if reasons else "All systems operational.",
    )


def _now() -> datetime:
    return datetime.now(UTC)


def report(claims: Claims, now: Callable[[], datetime] = _now) -> dict[str, object]:
    """The body of ``/health``: times in seconds and RFC 3339, sizes in bytes."""
    health = assess(claims)
    return {
        "status": health.status,
        "timestamp": now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "metrics": {
            "memory_usage_percent": round(claims.memory_usage_percent, 2),
            "heap_bytes": claims.heap_bytes,
            "resident_memory_bytes": claims.resident_bytes,
            "virtual_memory_bytes": claims.virtual_bytes,
            "gc_collections": claims.gc_collections,
            "gc_uncollectable_objects": claims.gc_uncollectable,
            "uptime_seconds": round(claims.uptime_seconds, 3),
        },
        "health_checks": dict(health.checks),
        "message": health.message,
    }
