"""One uvicorn server on one event loop behind three listening sockets, hardened against slow and silent clients."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import resource
import signal
import socket
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["ByPort", "Server", "address", "listen", "raise_file_limit"]

# The kernel queues this many connections (or net.core.somaxconn, if that is less) until they are accepted.
BACKLOG = 4096
# asyncio accepts as many connections in one turn of the loop as its own backlog says, about 0.1 ms each. More than this
# in one turn and a storm of new connections keeps a probe waiting.
ACCEPTS_PER_TURN = 64
# From the first byte we could have had of a request to its last: no client here sends more than a few hundred bytes.
REQUEST_SECONDS = 10.0
# Between requests. Longer than Prometheus waits from scrape to scrape, so that its connection lives.
KEEP_ALIVE_SECONDS = 20
# Requests under way at SIGTERM have this long. With uvicorn's own ticks of 0.1 s the stop takes well under a second.
STOP_GRACE_SECONDS = 0.5


def raise_file_limit() -> None:
    """Allow as many connections as the system lets us: the soft limit is often 1024, the hard one far above."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it is: a response is written in two parts, and
    # the second would wait 40 ms for a delayed acknowledgement of the first.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def address(listener: socket.socket) -> str:
    """``HOST:PORT`` as bound."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ByPort:
    """ASGI application that hands a request to the application of the port that it came in on."""

    def __init__(self, apps: Mapping[int, ASGIApp]) -> None:
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._apps[scope["server"][1]](scope, receive, send)


class PromptProtocol(H11Protocol):
    """uvicorn's HTTP protocol, with a time limit on the arrival of each request.

    uvicorn limits the silence between requests only: a client that never finishes its first, or drips it byte by byte,
    would hold its connection for as long as it likes.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Keep the clock running while a request is incomplete, and stop it when it has arrived."""
        super().data_received(data)
        self._watch()

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
        """Stop the clock: a timer would keep a closed connection in memory."""
        self._stop_watch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        arriving = self.conn.their_state in {h11.IDLE, h11.SEND_BODY}
        if not arriving:
            self._stop_watch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self.timeout_keep_alive_handler)

    def _stop_watch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Server(uvicorn.Server):
    """uvicorn's server with this project's limits, a call when it listens, and an end that is quick and quiet."""

    def __init__(
        self, app: ASGIApp, on_listening: Callable[[], None], on_grace_over: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=PromptProtocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level=logging.ERROR,  # a malformed request is the client's fault and not worth a line
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=ACCEPTS_PER_TURN,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )
        self._on_listening = on_listening
        self._on_grace_over = on_grace_over

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, and say so."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)  # asyncio has set the kernel's queue to its own, short one
        self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End with exit status 0 on SIGTERM and SIGINT: uvicorn's own way raises the signal again afterwards."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close idle connections, wait a moment for requests under way, then cut what is left.

        Cutting connections ends their requests without a traceback in the log. uvicorn's own limit on the wait cancels
        the requests instead, and logs each as an error of the application. A request that waits for something else than
        its client has to be ended by `on_grace_over`.
        """
        asyncio.get_running_loop().call_later(STOP_GRACE_SECONDS, self._end_grace)
        await super().shutdown(sockets)

    def _stop(self) -> None:
        self.should_exit = True

    def _end_grace(self) -> None:
        self._on_grace_over()
        for connection in list(self.server_state.connections):
            transport: Any = connection.transport
            transport.abort()
