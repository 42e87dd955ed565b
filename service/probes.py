"""The answers to probes, without an event loop: whoever has read a request may ask for the response's bytes."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

import h11

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.metrics import RequestMetrics

__all__ = ["Answer", "Body", "Probes", "encode"]


@dataclass(frozen=True)
class Body:
    """A status and a JSON text."""

    status: int
    text: bytes


@dataclass(frozen=True)
class Answer:
    """A response's bytes, and whether the connection ends with it."""

    response: bytes
    closes: bool


def encode(status: int, content: Mapping[str, object]) -> Body:
    """A body with this content."""
    return Body(status, json.dumps(content, separators=(",", ":")).encode())


class Probes:
    """Answers GET and HEAD of a few paths, each from a function that returns its `Body`.

    Only a request that is whole, has no body and has nothing behind it is answered here. What is anything else is left
    to the HTTP server.
    """

    def __init__(self, bodies: Mapping[str, Callable[[], Body]], metrics: RequestMetrics) -> None:
        self._bodies = bodies
        self._metrics = metrics
        self._starts = tuple(f"{method} {path}".encode() for path in bodies for method in ("GET", "HEAD"))
        # What is sent when there is no memory to make an answer of: the last that was made.
        self._last = {
            path: self._render(h11.Connection(h11.SERVER), body(), head=False) for path, body in bodies.items()
        }

    def answer(self, request: bytes) -> Answer | None:
        """The response to a probe, or None where this is something else."""
        if not request.startswith(self._starts):
            return None
        started = time.perf_counter()
        try:
            connection = h11.Connection(h11.SERVER)
            head = self._parse(connection, request)
            if head is None:
                return None
            method, path = head
            body = self._bodies[path]()
            response = self._render(connection, body, head=method == "HEAD")
        except h11.RemoteProtocolError:
            return None
        except MemoryError:
            last = self._last.get(request.split(b" ", 2)[1].partition(b"?")[0].decode("latin-1"))
            return Answer(last, closes=True) if last else None
        if method != "HEAD":
            self._last[path] = response
        # RuntimeError: "can't allocate lock", which the first of a kind needs. The answer matters more than its count.
        with contextlib.suppress(MemoryError, RuntimeError):
            self._metrics.count(method, path, body.status, time.perf_counter() - started)
        return Answer(response, closes=connection.our_state is h11.MUST_CLOSE)

    def _parse(self, connection: h11.Connection, request: bytes) -> tuple[str, str] | None:
        """Method and path of a probe that is whole and alone."""
        connection.receive_data(request)
        head = connection.next_event()
        if not isinstance(head, h11.Request) or any(name in {b"expect", b"upgrade"} for name, _ in head.headers):
            return None
        path = head.target.partition(b"?")[0].decode("ascii")
        # The end of the request comes next where it has no body, and nothing may come after it.
        alone = isinstance(connection.next_event(), h11.EndOfMessage) and not connection.trailing_data[0]
        return (head.method.decode("ascii"), path) if alone and path in self._bodies else None

    @staticmethod
    def _render(connection: h11.Connection, body: Body, *, head: bool) -> bytes:
        headers = [
            ("date", formatdate(usegmt=True)),
            ("content-length", str(len(body.text))),
            ("content-type", "application/json"),
        ]
        parts = [
            connection.send(
                h11.Response(status_code=body.status, headers=headers, reason=HTTPStatus(body.status).phrase)
            ),
            connection.send(h11.Data(data=b"" if head else body.text)),
            connection.send(h11.EndOfMessage()),
        ]
        return b"".join(part for part in parts if part)
