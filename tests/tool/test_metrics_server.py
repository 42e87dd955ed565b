"""The server of the metrics beside clients that mean no good."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.registry import Collector

from diagnosis.output import metrics_server
from diagnosis.output.metrics_server import MAX_CONNECTIONS, MetricsServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric


class Failing(Collector):
    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        raise RuntimeError("no tracer")


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge("answer", "Of everything.", registry=registry).set(42)
    return registry


@pytest.fixture
def server(registry: CollectorRegistry) -> Iterator[MetricsServer]:
    server = MetricsServer(("127.0.0.1", 0), registry)
    server.start()
    yield server
    server.stop()


def connect(server: MetricsServer) -> socket.socket:
    return socket.create_connection(server.server_address[:2], timeout=30)  # type: ignore[arg-type]


def scrape(server: MetricsServer, path: str = "/metrics", method: str = "GET") -> tuple[int, bytes]:
    host, port = server.server_address[:2]
    client = http.client.HTTPConnection(str(host), int(port), timeout=30)
    client.request(method, path)
    answer = client.getresponse()
    return answer.status, answer.read()


def threads() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("path", ["/", "/metrics", "/metrics?name[]=answer"])
def test_it_answers_with_the_metrics(server: MetricsServer, path: str) -> None:
    assert scrape(server, path)[0] == 200
    assert b"answer 42.0" in scrape(server, path)[1]


def test_other_pages_and_methods_are_not_there(server: MetricsServer) -> None:
    assert scrape(server, "/../../etc/passwd")[0] == 404
    assert scrape(server, method="DELETE")[0] == 501


def test_a_scrape_that_fails_says_no_more_than_that(server: MetricsServer, registry: CollectorRegistry) -> None:
    registry.register(Failing())
    assert scrape(server) == (503, b"the trace cannot be read now\n")


def test_a_page_that_is_too_long_is_not_sent(server: MetricsServer, registry: CollectorRegistry) -> None:
    Gauge("long", "x" * (metrics_server.MAX_PAGE_BYTES + 1), registry=registry).set(1)
    assert scrape(server) == (503, b"the page is too long\n")


@pytest.mark.parametrize(
    "sent",
    [b"\x00\xff\r\n\r\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\n" + b"A: b\r\n" * 200],
)
def test_what_is_no_request_is_refused(server: MetricsServer, sent: bytes) -> None:
    with connect(server) as client:
        client.sendall(sent)
        assert not client.recv(100).startswith(b"HTTP/1.0 200")
    assert scrape(server)[0] == 200


def test_beside_many_that_send_slowly_there_is_a_place_for_a_scrape(server: MetricsServer) -> None:
    """GIVEN a hundred clients that send half a request WHEN one scrapes THEN it has its answer, and threads are few."""
    clients = []
    for _ in range(100):
        client = connect(server)
        client.sendall(b"GET /metr")
        clients.append(client)
    ends = time.monotonic() + 60
    while True:
        try:
            status, _ = scrape(server)
            break
        except (OSError, http.client.HTTPException):
            assert time.monotonic() < ends, "there was no place in a minute"
    assert status == 200
    assert threads() <= MAX_CONNECTIONS + 1
    for client in clients:
        client.close()


def test_who_sends_nothing_is_cut_off(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "CONNECTION_SECONDS", 0.5)
    with connect(server) as client:
        client.sendall(b"GET /metr")
        assert client.recv(1) == b""


def test_it_stops_at_once_whoever_is_connected(registry: CollectorRegistry) -> None:
    server = MetricsServer(("127.0.0.1", 0), registry)
    server.start()
    clients = [connect(server) for _ in range(10)]
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < metrics_server.CONNECTION_SECONDS / 2
    for client in clients:
        with client:
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                continue  # it had not been accepted yet
