"""Ports for programs that are told theirs."""

from __future__ import annotations

import random
import socket

# Below those that the kernel gives to connections (net.ipv4.ip_local_port_range), so that none of these takes the port.
FIRST, LAST = 20_000, 32_000


def free_port() -> int:
    """One that nobody listens on."""
    while True:
        port = random.randint(FIRST, LAST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
