"""A service with every fault that the team's alerts look for, in the real service's metrics."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

MIB = 1024 * 1024


class SickService(Collector):
    """Each scrape finds it worse: more memory, more failed requests, slower lookups, and begun anew."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._scrapes = itertools.count(1)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        scrape = next(self._scrapes)
        yield GaugeMetricFamily("service_health_status", "", 0)
        yield GaugeMetricFamily("memory_usage_percent", "", 99)
        yield GaugeMetricFamily("process_resident_memory_bytes", "", 0.9 * self._limit_bytes + scrape * 64 * MIB)
        garbage = CounterMetricFamily("python_gc_objects_uncollectable", "", labels=["generation"])
        garbage.add_metric(["2"], 1000)
        requests = CounterMetricFamily("http_requests", "", labels=["method", "path", "status"])
        for path in ("/health", "/ready", "/api/items/{id}"):
            requests.add_metric(["GET", path, "503"], 10 * scrape, created=time.time())
        lookups = HistogramMetricFamily("http_request_duration_seconds", "", labels=["method", "path"])
        lookups.add_metric(
            ["GET", "/api/items/{id}"], [("0.05", 0.0), ("0.5", 10.0 * scrape), ("+Inf", 10.0 * scrape)], 3.0 * scrape
        )
        yield from (garbage, requests, lookups)


@contextlib.contextmanager
def running_sick_service(limit_bytes: int) -> Iterator[str]:
    """Its address."""
    registry = CollectorRegistry()
    registry.register(SickService(limit_bytes))
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
