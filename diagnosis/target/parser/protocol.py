"""How the tracer and its parser talk: one request, one answer, over a pair of stream sockets.

A message is two lengths, a JSON object, and bytes that need no decoding. A request brings descriptors of regular files
along (SCM_RIGHTS). Both sides refuse a message that is longer than its limit before they have read it.
"""

from __future__ import annotations

import array
import json
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTHS = struct.Struct("<II")

# In bytes. An object is small: a million empty lists in a few megabytes of JSON would fill the reader's memory.
MAX_OBJECT = 4 << 20
# Call frame information of libLLVM is 37 MiB of text.
MAX_PAYLOAD = 64 << 20
MAX_DESCRIPTORS = 2
_CHUNK = 1 << 20


class ProtocolError(Exception):
    """The other side sent what is no message, or closed its end within one."""


@dataclass(frozen=True)
class Message:
    """An object, bytes, and the descriptors that came with them, which are the receiver's to close."""

    fields: dict[str, Any]
    payload: bytes = b""
    descriptors: tuple[int, ...] = ()


def send(connection: socket.socket, message: Message) -> None:
    """Send one message.

    Raises:
        ProtocolError: it is longer than a message may be.
        OSError: the other side is gone, or does not read within the socket's timeout.
    """
    text = json.dumps(message.fields, separators=(",", ":")).encode()
    if len(text) > MAX_OBJECT or len(message.payload) > MAX_PAYLOAD:
        raise ProtocolError(f"a message of {len(text):,} and {len(message.payload):,} bytes is too long")
    head = LENGTHS.pack(len(text), len(message.payload)) + text
    sent = socket.send_fds(connection, [head], message.descriptors) if message.descriptors else 0
    connection.sendall(head[sent:])
    if message.payload:
        connection.sendall(message.payload)


def receive(
    connection: socket.socket, *, next_wait: Callable[[], float] | None = None, descriptors: int = 0
) -> Message | None:
    """The next message; None where the other side has closed its end.

    Args:
        connection: a stream socket.
        next_wait: asked again and again, for how many seconds to wait; raises TimeoutError when it has been enough.
        descriptors: how many can come along. None are taken by default.

    Raises:
        ProtocolError: what came is no message, or is longer than one may be.
        TimeoutError: it came from ``next_wait``.
        OSError: the other side is gone.
    """
    files = array.array("i")
    head = bytearray()
    while len(head) < LENGTHS.size:
        if descriptors:
            part, came, flags, _ = socket.recv_fds(connection, LENGTHS.size - len(head), descriptors)
            files.extend(came)
            if flags & socket.MSG_CTRUNC:
                raise ProtocolError("too many descriptors")
        else:
            part = _part(connection, LENGTHS.size - len(head), next_wait)
        if not part:
            if head:
                raise ProtocolError("the message ends early")
            return None
        head += part
    length, rest = LENGTHS.unpack(head)
    if length > MAX_OBJECT or rest > MAX_PAYLOAD:
        raise ProtocolError(f"a message of {length:,} and {rest:,} bytes is too long")
    try:
        fields = json.loads(_exactly(connection, length, next_wait))
    except (ValueError, RecursionError) as error:
        raise ProtocolError("the message is no JSON") from error
    if not isinstance(fields, dict):
        raise ProtocolError("the message is no JSON object")
    return Message(fields, bytes(_exactly(connection, rest, next_wait)), tuple(files))


def _exactly(connection: socket.socket, size: int, next_wait: Callable[[], float] | None) -> bytearray:
    found = bytearray()
    while len(found) < size:
        part = _part(connection, min(size - len(found), _CHUNK), next_wait)
        if not part:
            raise ProtocolError("the message ends early")
        found += part
    return found


def _part(connection: socket.socket, size: int, next_wait: Callable[[], float] | None) -> bytes:
    while True:
        if next_wait:
            connection.settimeout(next_wait())
        try:
            return connection.recv(size)
        except TimeoutError:
            if not next_wait:
                raise
