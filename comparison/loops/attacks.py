"""What a hostile client does, each in a process of its own, to 127.0.0.1 only, bounded in count and in time.

``python -m comparison.loops.attacks NAME PORT SECONDS``. It writes the line "begun" once the attack is under way,
and at its end a line of JSON with what it did.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import resource
import socket
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LOOPBACK: Final = "127.0.0.1"
HEALTH: Final = b"GET /health HTTP/1.1\r\nHost: catalog\r\n\r\n"
LOOKUP: Final = b"GET /api/items/1 HTTP/1.1\r\nHost: catalog\r\n\r\n"
RESET: Final = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 seconds
PIPELINED: Final = 3000


def _connect(port: int, *, peer: int = 0, seconds: float = 1.0) -> socket.socket:
    """A connection from 127.0.0.1, or for ``peer`` 1 to 250 from another loopback address."""
    client = socket.socket()
    try:
        client.settimeout(seconds)
        if peer:
            client.bind((f"127.0.1.{peer}", 0))
        client.connect((LOOPBACK, port))
    except OSError:
        client.close()
        raise
    return client


def _begun() -> None:
    sys.stdout.write("begun\n")
    sys.stdout.flush()


def pipelining(port: int, seconds: float) -> dict[str, int]:
    """200 clients send thousands of requests and read no answer."""
    with contextlib.ExitStack() as held:
        for _ in range(200):
            client = held.enter_context(_connect(port))
            client.setblocking(False)
            with contextlib.suppress(OSError):
                client.send(HEALTH * PIPELINED)
        _begun()
        time.sleep(seconds)
    return {"clients": 200}


def flood(port: int, seconds: float, *, request: bytes = b"") -> dict[str, int]:
    """Connect, perhaps ask, and reset, as fast as one process can, from many addresses."""
    made = refused = 0
    _begun()
    until = time.monotonic() + seconds
    for peer in itertools.cycle(range(1, 251)):
        if time.monotonic() >= until:
            break
        try:
            client = _connect(port, peer=peer)
        except OSError:
            refused += 1
            continue
        made += 1
        with client, contextlib.suppress(OSError):
            if request:
                client.send(request)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return {"connections": made, "refused": refused}


def crowd(port: int, seconds: float) -> dict[str, int]:
    """10,000 connections that say nothing, spread over the time."""
    return _hold(port, 10_000, seconds)


def idle(port: int, seconds: float) -> dict[str, int]:
    """600 connections that say nothing, at once, and are held."""
    return _hold(port, 600, 0, seconds)


def _hold(port: int, count: int, spread: float, after: float = 0.0) -> dict[str, int]:
    made = 0
    with contextlib.ExitStack() as held:
        if spread:
            _begun()
        started = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, started + spread * number / count - time.monotonic()))
            with contextlib.suppress(OSError):
                held.enter_context(_connect(port, peer=1 + number % 250))
                made += 1
        if not spread:
            _begun()
        time.sleep(after)
    return {"connections": made}


def hang_up(port: int, seconds: float) -> dict[str, int]:
    """Ask for a lookup and hang up, as fast as one process can, from many addresses.

    One address would run out of ports, and the probes beside it would wait for theirs.
    """
    made = 0
    _begun()
    until = time.monotonic() + seconds
    for peer in itertools.cycle(range(1, 251)):
        if time.monotonic() >= until:
            break
        with contextlib.suppress(OSError), _connect(port, peer=peer) as client:
            client.send(LOOKUP)
            made += 1
    return {"lookups": made}


def asking_flood(port: int, seconds: float) -> dict[str, int]:
    """Connect, ask for an item and reset, as fast as one process can, from many addresses."""
    return flood(port, seconds, request=LOOKUP)


ATTACKS: Final[dict[str, Callable[[int, float], dict[str, int]]]] = {
    each.__name__: each for each in (pipelining, flood, asking_flood, crowd, idle, hang_up)
}


def main() -> None:
    """Run one attack."""
    name, port, seconds = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.stdout.write(json.dumps(ATTACKS[name](int(port), float(seconds))) + "\n")


if __name__ == "__main__":
    main()
