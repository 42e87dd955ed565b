"""The listening sockets."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from typing import TYPE_CHECKING, Final

from service.config import LOOPBACK, variable

if TYPE_CHECKING:
    from service.config import ServiceConfig

__all__ = ["BindError", "StartError", "address", "listen", "open_listeners"]

# The kernel queues this many connections (or net.core.somaxconn, if that is less) until they are accepted.
BACKLOG: Final = 4096


class StartError(Exception):
    """What the service needs for its start and does not get. The text is one line, with what to change."""


class BindError(StartError):
    """An address that cannot be listened on, and the variable to change."""


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


def open_listeners(config: ServiceConfig) -> tuple[socket.socket, socket.socket, socket.socket]:
    """The three listening sockets: catalog, metrics, ledger.

    Raises:
        BindError: one of them cannot be bound.
    """
    with contextlib.ExitStack() as opened:
        sockets = []
        for field, host, port in (
            ("http_port", config.host, config.http_port),
            ("metrics_port", config.host, config.metrics_port),
            ("ledger_port", LOOPBACK, config.ledger_port),
        ):
            try:
                sockets.append(opened.enter_context(contextlib.closing(listen(host, port))))
            except OSError as error:
                raise BindError(
                    f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}. Set {variable(field)} to "
                    f"a free port (0: any), or {variable('host')} to an address of this machine."
                ) from error
        opened.pop_all()
    return sockets[0], sockets[1], sockets[2]


def address(listener: socket.socket) -> str:
    """``HOST:PORT`` as bound."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
