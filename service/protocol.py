"""uvicorn's HTTP protocol, hardened against clients that are slow or silent, do not read, or ask too much at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import h11
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

from service import limits
from service.front import has_gone

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from service.front import Arrival
    from service.server import Server

__all__ = ["HUNG_UP", "PromptProtocol"]

# What one read takes from a connection: asyncio's 256 KiB would be 6,000 pipelined requests.
READ_BYTES = 16 * 1024
# The ASGI extension under which an application finds out whether its client has gone: a function, for any thread.
HUNG_UP: Final = "memleak_lab.hung_up"


class Flow(FlowControl):
    """uvicorn's flow control, where reading stays paused while requests that have been read wait for their turn."""

    held = False

    def resume_reading(self) -> None:
        """Read again, unless held."""
        if not self.held:
            super().resume_reading()


class PromptProtocol(H11Protocol):
    """uvicorn's HTTP protocol with a limit on a request's time and on a response's, and one request a turn.

    uvicorn limits the silence between requests only: a client that never finishes its first, or drips it byte by byte,
    would hold its connection for as long as it likes, and so would one that does not read. It also begins a pipelined
    request as soon as the one before is answered: here that is queued behind the requests of others.
    """

    _deadline: asyncio.TimerHandle | None = None
    _write_deadline: asyncio.TimerHandle | None = None
    _queued = False
    _answered = False

    def __init__(self, server: Server, arrival: Arrival) -> None:
        super().__init__(server.config, server.server_state, {}, asyncio.get_running_loop())
        self.app = self._call_app
        self._server = server
        self._arrival = arrival

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock, and take in what the front has read already."""
        super().connection_made(transport)
        self.flow: Flow = Flow(transport)
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]
        self._server.came(self, self._arrival.peer)
        self.data_received(self._arrival.first_bytes)

    def data_received(self, data: bytes) -> None:
        """Keep the clock running while a request is incomplete, and stop it when it has arrived."""
        self._server.active(self)
        super().data_received(data)
        self._watch()

    def handle_events(self) -> None:
        """Handle what has been read. After a response that takes a turn of its own."""
        if not self._answered and not self._queued:
            super().handle_events()
            return
        self.flow.pause_reading()
        if not self._queued:
            self._queued = True
            self._server.turns.again(self._arrival.listener, self._take_turn)

    def on_response_complete(self) -> None:
        """Queue for the next turn, with reading paused while there is something to do without it."""
        self._server.active(self)
        self.flow.held = bool(self.conn.trailing_data[0])
        self._answered = True
        try:
            super().on_response_complete()
        finally:
            self._answered = False

    def pause_writing(self) -> None:
        """The client reads too slowly: from now on it has a limited time."""
        super().pause_writing()
        if self._write_deadline is None:
            self._write_deadline = self.loop.call_later(limits.REQUEST_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._stop_write_watch()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed, or hang up where a response to its first part has begun.

        uvicorn begins a second response then, or lets the application begin one after this: h11 raises on either, and
        a client's broken body ends as this service's traceback.
        """
        if self.cycle is not None:
            self.cycle.disconnected = True
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks: a timer would keep a closed connection in memory."""
        self._stop_watch()
        self._stop_write_watch()
        self._server.gone(self)
        super().connection_lost(exc)

    def _take_turn(self) -> bool:
        self._queued = False
        if self.transport.is_closing():
            return False
        super().handle_events()
        if self.conn.their_state in {h11.IDLE, h11.SEND_BODY}:  # there was less than a request
            self.flow.held = False
            self.flow.resume_reading()
        if self.conn.trailing_data[0]:  # and more than nothing: keep-alive has a clock of its own
            self._watch()
        return True

    async def _call_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {HUNG_UP: self._hung_up}
        app: ASGIApp = self.config.loaded_app
        await app(scope, receive, send)

    def _hung_up(self) -> bool:
        # Asked of the kernel: asyncio learns of it only when it reads, and it does not read on while requests wait.
        return has_gone(self.transport.get_extra_info("socket").fileno(), half=True)

    def _watch(self) -> None:
        arriving = self.conn.their_state in {h11.IDLE, h11.SEND_BODY}
        if not arriving:
            self._stop_watch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(limits.REQUEST_SECONDS, self.timeout_keep_alive_handler)

    def _stop_watch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _stop_write_watch(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
