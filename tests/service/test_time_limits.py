"""How long the server waits for a client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest
from starlette.responses import PlainTextResponse

from service import limits
from service.listeners import listen
from service.server import Server
from tests.service.clients import LIMITS, WHOLE
from tests.support.waiting import LIMIT_SECONDS

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


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

    def test_a_client_that_asks_in_time_is_not_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "KEEP_ALIVE_SECONDS", 3)  # longer than a machine pauses: both ends are in this loop
        asked = 40
        seconds, said, _ = asyncio.run(self.hang_up_after(*[WHOLE] * asked, pause=0.1))
        assert seconds > 4
        assert said.count(b"200 OK") == asked
