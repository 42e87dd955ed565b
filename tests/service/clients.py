"""Clients of the service: kubelets that probe it, and others that open connections in number."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from typing import TYPE_CHECKING

from service.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.running_service import Service

PROBE_SECONDS = 1.0  # what a kubelet allows by default
WHOLE = b"GET /health HTTP/1.1\r\nHost: catalog\r\n\r\n"
LIMITS = Limits(silent=64, open=64, queued=16)
HALF = b"GET /health HTTP/1.1\r\nHost: cata"


@contextlib.contextmanager
def connections(service: Service, count: int, first_words: bytes = b"") -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=10))
            if first_words:
                client.sendall(first_words)
            clients.append(client)
        yield clients


def probe(service: Service, times: int = 20) -> list[float]:
    """Seconds that /health took, each on a connection of its own, as a kubelet asks."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        kubelet = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
        kubelet.request("GET", "/health", headers={"Connection": "close"})
        answer = kubelet.getresponse()
        body = json.load(answer)
        seconds.append(time.perf_counter() - started)
        kubelet.close()
        assert (answer.status, body["status"]) == (200, "healthy")
    return seconds


def best_round(service: Service, times: int = 20) -> float:
    """The slowest probe of the best of five rounds: a busy machine makes a round slower, never faster."""
    return min(max(probe(service, times)) for _ in range(5))
