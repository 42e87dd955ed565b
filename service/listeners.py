"""The listening sockets, and how many connections the process's descriptors allow behind them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import resource
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from service.config import LOOPBACK, variable

if TYPE_CHECKING:
    from service.config import ServiceConfig

__all__ = ["BindError", "Limits", "address", "listen", "open_listeners", "raise_file_limit"]

# The kernel queues this many connections (or net.core.somaxconn, if that is less) until they are accepted.
BACKLOG: Final = 4096
# Descriptors that are no client's: the interpreter's, the event loop's, the front's, the listeners, and some to spare.
RESERVED_FILES: Final = 48
FEWEST_CONNECTIONS: Final = 24
# A connection that has sent nothing costs a record. One that has sent a request costs an HTTP parser: about 25 KiB.
MOST_SILENT: Final = 16_384
MOST_OPEN: Final = 2048
MOST_QUEUED: Final = 256


class BindError(Exception):
    """An address that cannot be listened on, and the variable to change."""


@dataclass(frozen=True)
class Limits:
    """How many connections are held at once: silent ones, open ones, and those queued between the two per listener."""

    silent: int
    open: int
    queued: int

    @classmethod
    def of_files(cls, files: int, listeners: int) -> Self:
        """The limits of a process that may have ``files`` descriptors.

        Below `RESERVED_FILES` and `FEWEST_CONNECTIONS` together connections may fail for want of a descriptor.
        """
        usable = max(files - RESERVED_FILES, FEWEST_CONNECTIONS)
        queued = max(1, min(MOST_QUEUED, usable // (4 * listeners)))
        opened = min(MOST_OPEN, usable // 3)
        return cls(min(MOST_SILENT, usable - opened - queued * listeners), opened, queued)

    @staticmethod
    def of_one_peer(most: int) -> int:
        """How many of ``most`` connections one address may hold: the others always have a quarter."""
        return max(1, most * 3 // 4)


def raise_file_limit() -> int:
    """Allow as many descriptors as the system lets us, and say how many: the soft limit is often far below."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


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
