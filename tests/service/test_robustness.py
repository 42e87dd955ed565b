"""Bad clients, slow clients, very many clients: none of them fails a probe or holds up the end."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import resource
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from starlette.responses import PlainTextResponse

from service import limits
from service.limits import Limits
from service.listeners import listen
from service.server import Server
from tests.support.running_service import END_OF_DEGRADED_BYTES, running_service
from tests.support.waiting import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send

    from tests.support.running_service import Service

PROBE_SECONDS = 1.0  # what a kubelet allows by default
WHOLE = b"GET /health HTTP/1.1\r\nHost: catalog\r\n\r\n"
LIMITS = Limits(silent=64, open=64, queued=16)
HALF = b"GET /health HTTP/1.1\r\nHost: cata"

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


@pytest.fixture
def many_files() -> Iterator[int]:
    """As many open files as the system allows; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


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


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Until the end: a server that hangs up on a byte that is on its way resets the connection."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while part := await reader.read(65_536):
            said += part
    return said


class TestTimeLimits:
    """The server on its own, with its limits shortened."""

    @pytest.fixture(autouse=True)
    def short_limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "REQUEST_SECONDS", 0.3)
        monkeypatch.setattr(limits, "KEEP_ALIVE_SECONDS", 1)

    @staticmethod
    async def hang_up_after(*parts: bytes, pause: float = 0.0) -> tuple[float, bytes, int]:
        """Send the parts, a pause after each: seconds until the server hangs up, its answers, and the parts sent."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await PlainTextResponse("hello")(scope, receive, send)

        listening = asyncio.Event()
        listener = listen("127.0.0.1", 0)
        where = listener.getsockname()
        server = Server(app, [listener], listening.set, limits=LIMITS)
        serving = asyncio.create_task(server.serve())
        await listening.wait()
        reader, writer = await asyncio.open_connection(*where)
        answer = asyncio.create_task(read_all(reader))
        started = time.monotonic()
        sent = 0
        for part in parts:
            if answer.done():
                break
            writer.write(part)
            sent += 1
            await asyncio.sleep(pause)
        said = await asyncio.wait_for(answer, LIMIT_SECONDS)
        seconds = time.monotonic() - started
        writer.close()
        server.should_exit = True
        await serving
        return seconds, said, sent

    def test_a_client_that_says_nothing(self) -> None:
        seconds, said, _ = asyncio.run(self.hang_up_after())
        assert seconds > 0.25
        assert said == b""

    def test_a_client_that_drips_its_first_request(self) -> None:
        drops = [WHOLE[i : i + 1] for i in range(len(WHOLE))]
        seconds, said, sent = asyncio.run(self.hang_up_after(*drops, pause=0.05))
        assert seconds > 0.25
        assert sent < len(drops)
        assert said == b""

    def test_a_client_that_drips_its_second_request(self) -> None:
        drops = [WHOLE[i : i + 1] for i in range(len(WHOLE))]
        seconds, said, sent = asyncio.run(self.hang_up_after(WHOLE, *drops, pause=0.05))
        assert seconds > 0.25
        assert sent <= len(drops)
        assert said.count(b"200 OK") == 1

    def test_a_client_that_drips_a_body(self) -> None:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
        seconds, said, sent = asyncio.run(self.hang_up_after(head, *[b"x"] * 100, pause=0.05))
        assert seconds > 0.25
        assert sent < 101
        assert said.count(b"200 OK") == 1

    def test_a_client_that_keeps_its_connection_but_does_not_use_it(self) -> None:
        seconds, said, _ = asyncio.run(self.hang_up_after(WHOLE))
        assert seconds > 0.9
        assert said.count(b"200 OK") == 1

    def test_a_client_that_asks_in_time_is_not_cut(self) -> None:
        asked = 20
        seconds, said, _ = asyncio.run(self.hang_up_after(*[WHOLE] * asked, pause=0.1))
        assert seconds > 2
        assert said.count(b"200 OK") == asked


# A connection that does not finish its request is kept for 10 s, and an idle one for 20: a stop does not wait for them.
STOP_SECONDS = 10.0


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("idle", b""),
        ("in the head", HALF),
        ("in the body", b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx"),
        ("between requests", WHOLE),
        ("not reading", WHOLE * 5000),
    ],
)
def test_it_stops_promptly_with_connections_open(service: Service, kind: str, words: bytes) -> None:
    with connections(service, 50) as clients:
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.send(words)
        probe(service, 1)
        assert service.stop() < STOP_SECONDS, kind
    assert service.process.returncode == 0
    assert service.stderr() == ""


def test_it_stops_promptly_with_more_lookups_waiting_than_it_can_do(many_files: int) -> None:
    waiting = 900
    assert many_files > waiting + 100
    with running_service(LAB_SPEED="1000", LAB_CAP_BYTES=str(END_OF_DEGRADED_BYTES)) as service:
        wait_until(lambda: service.ledger()["bytes_live"] == END_OF_DEGRADED_BYTES, "lookups are slow")
        service.get("/api/items/1")
        with connections(service, waiting, b"GET /api/items/1 HTTP/1.1\r\nHost: a\r\n\r\n") as clients:
            assert clients[0].recv(15) == b"HTTP/1.1 200 OK"
            assert service.stop() < STOP_SECONDS
        assert service.process.returncode == 0
        assert service.stderr() == ""


class TestGrace:
    """The server on its own: what becomes of a request that is under way when it stops."""

    @staticmethod
    async def stop_in_a_request(finish_after_seconds: float) -> tuple[float, bytes]:
        """Seconds that the stop took, and what the client was told."""
        begun = asyncio.Event()
        over = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            begun.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), finish_after_seconds)
            await PlainTextResponse("hello")(scope, receive, send)

        listening = asyncio.Event()
        listener = listen("127.0.0.1", 0)
        where = listener.getsockname()
        server = Server(app, [listener], listening.set, limits=LIMITS, on_grace_over=over.set)
        serving = asyncio.create_task(server.serve())
        await listening.wait()
        reader, writer = await asyncio.open_connection(*where)
        writer.write(WHOLE)
        await begun.wait()
        started = time.monotonic()
        server.should_exit = True
        await serving
        said = b""
        with contextlib.suppress(ConnectionError):
            said = await reader.read()
        writer.close()
        return time.monotonic() - started, said

    def test_one_that_ends_in_time_is_answered(self) -> None:
        _, said = asyncio.run(self.stop_in_a_request(finish_after_seconds=0.2))
        assert said.startswith(b"HTTP/1.1 200 OK")
        assert said.endswith(b"hello")

    def test_one_that_does_not_is_cut(self, caplog: pytest.LogCaptureFixture) -> None:
        seconds, said = asyncio.run(self.stop_in_a_request(finish_after_seconds=60))
        assert seconds < STOP_SECONDS
        assert said == b""
        assert not caplog.records, "nothing of it is worth a line"


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
