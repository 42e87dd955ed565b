"""One uvicorn server on one event loop, behind the front that accepts its connections."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.responses import PlainTextResponse

from service import limits as time_limits
from service.crowd import Crowd
from service.front import Front, has_gone
from service.limits import Limits
from service.protocol import PromptProtocol
from service.turns import Turns

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.front import Arrival
    from service.probes import Probes

__all__ = ["ByPort", "Server"]

# Requests under way at SIGTERM have this long. With uvicorn's own ticks of 0.1 s the stop takes well under a second.
STOP_GRACE_SECONDS = 0.5


class ByPort:
    """ASGI application that hands a request to the application of the port that it came in on.

    A shortage of memory is answered with an error status, and leaves no traceback in the log.
    """

    def __init__(self, apps: Mapping[int, ASGIApp]) -> None:
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._apps[scope["server"][1]](scope, receive, send_and_note)
        except MemoryError:
            if not begun:
                await PlainTextResponse("out of memory", 503)(scope, receive, send)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what a callback raised as asyncio does, except for a shortage of memory: there would be no end of it."""
    if not isinstance(context.get("exception"), MemoryError):
        loop.default_exception_handler(context)


class Server(uvicorn.Server):
    """uvicorn's server with this project's limits, a call when it listens, and an end that is quick and silent.

    ``listeners`` are served by a `Front`. It answers ``probes`` at the first of them, and hands on everything else.
    """

    def __init__(
        self,
        app: ASGIApp,
        listeners: Sequence[socket.socket],
        on_listening: Callable[[], None],
        *,
        limits: Limits,
        probes: Probes | None = None,
        on_grace_over: Callable[[], None] = lambda: None,
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
                timeout_keep_alive=time_limits.KEEP_ALIVE_SECONDS,
            )
        )
        self._listeners = listeners
        self._limits = limits
        self._probes = probes
        self._on_listening = on_listening
        self._on_grace_over = on_grace_over
        self._open: Crowd[PromptProtocol] = Crowd(limits.open, Limits.of_one_peer(limits.open))
        self._adopting: set[asyncio.Task[Any]] = set()
        self._failure: BaseException | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 uvicorn's signature
        """Accept connections, and say so."""
        await self.lifespan.startup()
        self.servers = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_report)
        self.turns = Turns(loop, len(self._listeners), self._limits.queued, lambda: self._front.pressed)

        def fail(error: BaseException) -> None:
            loop.call_soon_threadsafe(self._fail, error)

        self._front = Front(self._listeners, self._limits, self._probes, self._hand_on, fail)
        self._front.start()
        self.started = True
        self._on_listening()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `should_exit` is set, or until the front fails: then its error is raised."""
        await super().serve(sockets)
        if self._failure is not None:
            raise self._failure

    def came(self, connection: PromptProtocol, peer: str) -> None:
        """A connection is open: the least recently active one is closed where it is one too many."""
        displaced = self._open.add(connection, peer)
        if displaced is not None:
            displaced.transport.abort()

    def active(self, connection: PromptProtocol) -> None:
        """Something has happened on a connection."""
        self._open.touch(connection)

    def gone(self, connection: PromptProtocol) -> None:
        """A connection is closed."""
        self._open.discard(connection)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close idle connections, wait a moment for requests under way, then cut what is left.

        Cutting connections ends their requests without a traceback in the log. uvicorn's own limit on the wait cancels
        the requests instead, and logs each as an error of the application. A request that waits for something else than
        its client has to be ended by `on_grace_over`.
        """
        self._front.stop()
        asyncio.get_running_loop().call_later(STOP_GRACE_SECONDS, self._end_grace)
        await super().shutdown(sockets)

    def _hand_on(self, arrival: Arrival) -> bool:
        return self.turns.arrive(arrival.listener, functools.partial(self._adopt, arrival))

    def _adopt(self, arrival: Arrival) -> bool:
        if self.should_exit or has_gone(arrival.client.fileno(), half=self._front.pressed):
            arrival.client.close()
            return False
        arrival.client.setblocking(False)
        loop = asyncio.get_running_loop()
        adopting = loop.create_task(loop.connect_accepted_socket(lambda: PromptProtocol(self, arrival), arrival.client))
        self._adopting.add(adopting)
        adopting.add_done_callback(self._adopting.discard)
        return True

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self.should_exit = True

    def _end_grace(self) -> None:
        self._on_grace_over()
        for connection in list(self.server_state.connections):
            transport: Any = connection.transport
            transport.abort()
