"""The service stops promptly, whatever its clients do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest
from starlette.responses import PlainTextResponse

from service.listeners import listen
from service.server import Server
from tests.service.clients import HALF, LIMITS, WHOLE, connections, probe
from tests.support.running_service import END_OF_DEGRADED_BYTES, running_service
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from tests.support.running_service import Service


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
