"""What Prometheus scrapes: requests as they are, memory as the service believes it to be."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from service.health import Status, assess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Metric
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.claims import RuntimeView

__all__ = ["MeasuredRequests", "RequestMetrics", "make_registry"]

# From 100 microseconds to 1 s, four or more to a decade: a lookup takes 0.2 ms in the first phase and tens of
# milliseconds in the last, and a quantile read from buckets is no better than the bucket it falls in.
DURATION_BUCKETS = (
    *(0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.00075),
    *(0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0),
)

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
# Labels stay few, whatever clients send: one for all other methods, one for all paths without a route.
OTHER_METHOD = "OTHER"
NO_ROUTE = "unmatched"


class RequestMetrics:
    """Count and duration of requests by route."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "http_requests_total", "HTTP requests answered.", ["method", "path", "status"], registry=registry
        )
        self.durations = Histogram(
            "http_request_duration_seconds",
            "Time from a request's head to its response, in seconds.",
            ["method", "path"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )

    def count(self, method: str, path: str, status: int, seconds: float) -> None:
        """Note one request: safe in any thread."""
        known = method if method in METHODS else OTHER_METHOD
        self.requests.labels(known, path, status).inc()
        self.durations.labels(known, path).observe(seconds)


class ClaimsCollector(Collector):
    """The claims, read anew for every scrape."""

    def __init__(self, view: RuntimeView) -> None:
        self._view = view

    def collect(self) -> Iterable[Metric]:
        """Yield one gauge for each claim."""
        claims = self._view.read()
        healthy = assess(claims).status is Status.HEALTHY
        yield GaugeMetricFamily(
            "process_resident_memory_bytes", "Resident memory size in bytes.", claims.resident_bytes
        )
        yield GaugeMetricFamily("process_virtual_memory_bytes", "Virtual memory size in bytes.", claims.virtual_bytes)
        yield GaugeMetricFamily(
            "memory_usage_percent", "Memory in use as a percentage of the limit.", claims.memory_usage_percent
        )
        yield GaugeMetricFamily("service_health_status", "1 while the service is healthy, 0 otherwise.", float(healthy))


def make_registry(view: RuntimeView) -> CollectorRegistry:
    """A registry with the claims and the garbage collector.

    prometheus_client's default registry is not used: its process collector reads /proc and would tell the truth.
    """
    registry = CollectorRegistry()
    registry.register(ClaimsCollector(view))
    GCCollector(registry=registry)
    return registry


class MeasuredRequests:
    """ASGI middleware that counts and times every request under its route's template, never under its raw path.

    The clock stops when the response is handed to the server, before the first byte is written: on one machine the
    write wakes the client, and its work on the same core (1 ms, of a lookup's 0.4) would count as this service's.
    """

    def __init__(self, app: ASGIApp, metrics: RequestMetrics, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = self._clock()
        status, answered = 500, None  # 500 is what the server answers when the application fails before it began to

        async def send_and_note(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], self._clock()
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            path = getattr(scope.get("route"), "path", NO_ROUTE)
            self._metrics.count(scope["method"], path, status, (answered or self._clock()) - started)
