from __future__ import annotations

import contextlib
import json
import socket
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from diagnosis.base.errors import LabError
from diagnosis.lab.claims import Claims, ClaimsClient
from tests.diagnosis.test_ledger import server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEALTH = {
    "status": "healthy",
    "timestamp": "2026-01-02T03:04:05.678Z",
    "metrics": {"memory_usage_percent": 0.58, "resident_memory_bytes": 32_000_000, "heap_bytes": 15_000_000},
    "health_checks": {"memory": "normal", "gc": "healthy"},
    "message": "All systems operational.",
}


class Service:
    """What a service answers, and its request durations."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._durations = Histogram(
            "http_request_duration_seconds", "Durations.", ["method", "path"], registry=self.registry
        )

    def observe(self, path: str, *seconds: float) -> None:
        for each in seconds:
            self._durations.labels("GET", path).observe(each)

    @contextlib.contextmanager
    def serving(self) -> Iterator[Callable[[], Claims]]:
        """A look at the claims of now; the metrics are asked for at each."""
        with server(200, json.dumps(HEALTH).encode()) as health:
            client = ClaimsClient(address(health), "nowhere")

            def look() -> Claims:
                with server(200, generate_latest(self.registry)) as metrics:
                    client._metrics = metrics
                    return client.read()

            with contextlib.closing(client):
                yield look


def address(url: str) -> str:
    return url.split("/")[2]


def test_claims_are_what_health_says() -> None:
    with Service().serving() as look:
        assert look() == Claims(
            status="healthy",
            message="All systems operational.",
            memory_usage_percent=0.58,
            resident_bytes=32_000_000,
            health_checks={"memory": "normal", "gc": "healthy"},
            lookup_seconds=0.0,
        )


def test_the_time_of_a_lookup_is_the_mean_since_the_look_before() -> None:
    service = Service()
    service.observe("/health", 5.0)
    service.observe("/api/items/{id}", 0.001, 0.003)
    with service.serving() as look:
        assert look().lookup_seconds == pytest.approx(0.002)
        service.observe("/api/items/{id}", 0.030, 0.050)
        service.observe("/health", 5.0)
        assert look().lookup_seconds == pytest.approx(0.040)
        assert look().lookup_seconds == pytest.approx(0.040), "nobody looked anything up since: the last one stands"


def test_a_service_that_does_not_answer_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    with (
        contextlib.closing(ClaimsClient(nobody, nobody)) as client,
        pytest.raises(LabError) as caught,
    ):
        client.read()
    assert str(caught.value) == (
        "the service does not answer as it should: Connection refused: see whether it runs: "
        f"curl http://{nobody}/health http://{nobody}/metrics"
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]"])
def test_an_answer_that_is_no_health_is_one_line(body: bytes) -> None:
    with (
        server(200, body) as health,
        server(200, b"") as metrics,
        contextlib.closing(ClaimsClient(address(health), address(metrics))) as client,
        pytest.raises(LabError, match="the service does not answer"),
    ):
        client.read()


def test_metrics_that_are_refused_are_one_line() -> None:
    with (
        server(200, json.dumps(HEALTH).encode()) as health,
        server(503, b"") as metrics,
        contextlib.closing(ClaimsClient(address(health), address(metrics))) as client,
        pytest.raises(
            LabError, match=r"the service does not answer as it should: the answer is 503 Service Unavailable: see"
        ),
    ):
        client.read()
