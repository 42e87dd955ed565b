"""A small HTTP server for one page of metrics, which nobody who connects can hold up.

It answers GET of / and /metrics, one request a connection. Connections are few and short: who sends slowly, or sends
nothing, or does not read, is cut off, and what he holds is given to the next one. It never waits for a client to end.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from prometheus_client.exposition import choose_encoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

MAX_CONNECTIONS = 16
# From the first byte of a request to the last one of its answer.
CONNECTION_SECONDS = 10.0
# A scrape takes some milliseconds. From then on a connection gives way to another where all are taken.
SLOW_SECONDS = 1.0
MAX_PAGE_BYTES = 4 << 20
POLL_SECONDS = 0.2
_BACKLOG = 64
_PATHS = ("/", "/metrics")


class MetricsServer(ThreadingHTTPServer):
    """Serves a registry at an address, in threads of its own.

    Args:
        address: host and port; port 0 is one that is free.
        registry: what is served.

    Raises:
        OSError: the address cannot be had.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = _BACKLOG
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry) -> None:
        family, _, _, _, resolved = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        self.registry = registry
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__((str(resolved[0]), int(resolved[1])), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(POLL_SECONDS,), name="metrics", daemon=True)

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no more. Connections that are open are cut off."""
        self.shutdown()
        self.server_close()
        self._thread.join()
        self._cut_off(lambda _: True)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept. Where that fails, for want of descriptors, the next try is not at once: the socket stays readable."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(POLL_SECONDS)
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ANN401, ARG002 - socketserver's own
        """Whether there is room for another connection: where there is none, the oldest makes some, if it is slow."""
        now = time.monotonic()
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                oldest, began = next(iter(self._open.items()))
                if now - began < SLOW_SECONDS:
                    return False
                del self._open[oldest]
                _wake(oldest)
            self._open[request] = now
        return True

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        """Forget a connection that has been served, or was refused."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off who has had his time. Called after each poll."""
        oldest = time.monotonic() - CONNECTION_SECONDS
        self._cut_off(lambda began: began < oldest)

    def _cut_off(self, due: Callable[[float], bool]) -> None:
        with self._lock:
            for request in [request for request, began in self._open.items() if due(began)]:
                _wake(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """A client that hangs up is no news: standard error belongs to the trace."""


def _wake(request: socket.socket) -> None:
    """Let a connection's thread see its end, and close it."""
    with contextlib.suppress(OSError):  # the client was faster
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = CONNECTION_SECONDS
    server_version, sys_version = "memleak-lab", ""

    def do_GET(self) -> None:
        """The page."""
        if self.path.partition("?")[0] not in _PATHS:
            self._answer(HTTPStatus.NOT_FOUND, b"the metrics are at /metrics\n", "text/plain")
            return
        encoder, kind = choose_encoder(self.headers.get("Accept", ""))
        try:
            page = encoder(self.server.registry)
        except Exception:  # noqa: BLE001 - a scrape that fails is the scraper's affair and never the trace's
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"the trace cannot be read now\n", "text/plain")
            return
        if len(page) > MAX_PAGE_BYTES:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"the page is too long\n", "text/plain")
            return
        self._answer(HTTPStatus.OK, page, kind)

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
        """Nothing: what a client sends is not for the terminal."""
