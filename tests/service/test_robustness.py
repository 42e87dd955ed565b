"""Bad clients, slow clients, very many clients: none of them fails a probe."""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.service.clients import HALF, PROBE_SECONDS, WHOLE, best_round, connections, probe
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.running_service import Service

# Lookups as fast as they are answered, from a process of its own: the one that measures is to have its own interpreter.
BURST = """
import asyncio, sys
async def client(port, number):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        writer.write(b"GET /api/items/%d HTTP/1.1\\r\\nHost: catalog\\r\\n\\r\\n" % number)
        head = await reader.readuntil(b"\\r\\n\\r\\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
async def main(port, clients):
    await asyncio.gather(*(client(port, number) for number in range(clients)))
asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
"""


@pytest.mark.parametrize("count", [1_000, 10_000])
def test_idle_connections_do_not_fail_a_probe(service: Service, many_files: int, count: int) -> None:
    if many_files < count + 500:
        pytest.skip(f"needs {count} connections, and this system allows {many_files} open files")
    with connections(service, count) as clients:
        assert best_round(service) < PROBE_SECONDS
        clients[0].sendall(WHOLE)
        assert clients[0].recv(15) == b"HTTP/1.1 200 OK"
    wait_until(lambda: max(probe(service, 1)) < PROBE_SECONDS, "all have hung up at once, and that is digested")
    assert service.stderr() == ""


def test_slow_clients_do_not_fail_a_probe(service: Service) -> None:
    with connections(service, 200, HALF) as clients:
        for _ in range(5):
            for client in clients:
                client.sendall(b"x")
            assert best_round(service, 4) < PROBE_SECONDS
        clients[0].sendall(b"\r\n\r\n")
        assert clients[0].recv(15) == b"HTTP/1.1 200 OK", "a slow client is served when it is done in time"


def test_clients_that_do_not_read_do_not_fail_a_probe(service: Service) -> None:
    with connections(service, 50) as clients:
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(100):
                    client.send(WHOLE * 1000)
        assert best_round(service) < PROBE_SECONDS


MALFORMED = {
    "noise": b"\x00\xff\xfe garbage \x80\r\n\r\n",
    "blank lines": b"\r\n" * 1000,
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "unknown version": b"GET /health HTTP/9.9\r\nHost: a\r\n\r\n",
    "no version": b"GET /health HTTP/\r\nHost: a\r\n\r\n",
    "long path": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "long header": b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"a" * 200_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    "negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bad chunk": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnot a number\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n  c\r\n\r\n",
    "header without name": b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "path of bytes": b"GET /%ff%fe%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "path in full": b"GET http://elsewhere/health HTTP/1.1\r\nHost: a\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "tunnel": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "unknown method": b"BREW /health HTTP/1.1\r\nHost: a\r\n\r\n",
    "WebSocket": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "a body nobody wants": b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000,
    "a promise of a body": b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
    "half of one": HALF,
}


def test_malformed_requests_are_answered_or_dropped_and_leave_no_trace(service: Service) -> None:
    for name, request in MALFORMED.items():
        with (
            socket.create_connection(("127.0.0.1", service.port), timeout=10) as client,
            contextlib.suppress(OSError),  # it may hang up before it has read all of it
        ):
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(65_536)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 "), name
            assert not answer.startswith(b"HTTP/1.1 5"), name
    assert best_round(service) < PROBE_SECONDS
    assert service.value("http_requests_total", status="500") == 0
    assert service.stderr() == ""


def test_a_body_that_breaks_after_the_answer_leaves_no_trace(service: Service) -> None:
    head = b"POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
        client.sendall(head)
        assert client.recv(65_536).startswith(b"HTTP/1.1 405")
        client.sendall(b"not a number\r\n")
        while client.recv(65_536):
            pass
    assert service.stderr() == ""


def test_health_does_not_wait_behind_a_burst_of_lookups_of_the_degraded_phase(degraded_service: Service) -> None:
    """The 95th percentile of the best of three rounds, against the lookups of the same time."""

    def total(figure: str) -> float:
        return degraded_service.value(f"http_request_duration_seconds_{figure}", path="/api/items/{id}")

    burst = subprocess.Popen([sys.executable, "-c", BURST, str(degraded_service.port), "32"])
    try:
        before = degraded_service.value("http_requests_total", path="/api/items/{id}")
        wait_until(
            lambda: degraded_service.value("http_requests_total", path="/api/items/{id}") > before + 100,
            "the burst is under way",
        )
        count, seconds = total("count"), total("sum")
        rounds = [statistics.quantiles(probe(degraded_service, 60), n=20)[-1] for _ in range(3)]
        wait_until(lambda: total("count") > count, "a lookup ends")
        lookup = (total("sum") - seconds) / (total("count") - count)
        assert burst.poll() is None, "the burst ended early: a lookup was not answered with 200"
    finally:
        burst.kill()
        burst.wait()
    assert min(rounds) < lookup / 2


def test_connections_come_and_go_without_a_trace(service: Service) -> None:
    def open_files() -> int:
        return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))

    probe(service, 1)
    wait_until(lambda: open_files() < 30, "only the service's own files are open")
    before = open_files()
    for _ in range(5):
        with connections(service, 200, HALF):
            pass
    wait_until(lambda: open_files() <= before, "every connection is closed again")
