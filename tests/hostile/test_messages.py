"""What the tracer takes from a parser that may have been taken over: messages, and the answers in them."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any

import pytest

from diagnosis.target.parser.answers import debug_link_of, names_of, object_of, places_of
from diagnosis.target.parser.client import ParserError
from diagnosis.target.parser.protocol import LENGTHS, MAX_OBJECT, Message, ProtocolError, receive, send

RIGHT = {"machine": "x64", "bits": 64, "segments": [], "build_id": "00ff", "count": 0}


@pytest.mark.parametrize(
    ("changes", "payload"),
    [
        ({"machine": 5}, b""),
        ({"bits": -1}, b""),
        ({"bits": True}, b""),
        ({"segments": [{"offset": 0}]}, b""),
        ({"segments": [{"offset": 1 << 70, "address": 0, "size": 0, "executable": True}]}, b""),
        ({"segments": [{"offset": 0, "address": 0, "size": 0, "executable": True}] * 1000}, b""),
        ({"build_id": "../../../etc"}, b""),
        ({"build_id": None}, b""),
        ({"count": 3}, b"\0" * 16),
        ({"count": 1 << 62}, b""),
        ({"count": 1}, b"\0" * 15),
    ],
)
def test_a_wrong_answer_about_an_object_is_refused(changes: dict[str, Any], payload: bytes) -> None:
    assert object_of(Message(RIGHT)).build_id == "00ff"
    with pytest.raises(ParserError, match="wrong answer"):
        object_of(Message({**RIGHT, **changes}, payload))


@pytest.mark.parametrize(
    "found",
    [
        "x",
        [[]],
        [[], [["f", "file"]]],
        [[], [["f", 5, 1]]],
        [[], [["f", "file", -1]]],
        [[], [["f", "file", "1"]]],
        [[], [["f", "", 0]] * 1000],
        [[], [], []],
    ],
)
def test_a_wrong_answer_about_names_is_refused(found: object) -> None:
    assert places_of(Message({"found": [[], [["f", "file", 1]]]}), 2) == [[], [("f", "file", 1)]]
    with pytest.raises(ParserError, match="wrong answer"):
        places_of(Message({"found": found}), 2)
    with pytest.raises(ParserError, match="wrong answer"):
        names_of(Message({"names": ["a", 5]}), 2)


@pytest.mark.parametrize("name", ["/etc/shadow", "..", ".", "a/b", "a\0b", "x" * 256, None, 5])
def test_a_debug_link_leads_to_no_other_folder(name: object) -> None:
    with pytest.raises(ParserError):
        debug_link_of(Message({"name": name, "checksum": 1}))
    assert debug_link_of(Message({"name": "..a", "checksum": 1})) == ("..a", 1)


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff" * 8,
        LENGTHS.pack(MAX_OBJECT + 1, 0),
        LENGTHS.pack(4, 0) + b"none",
        LENGTHS.pack(2, 0) + b"[]",
        LENGTHS.pack(100_000, 0) + b"[" * 100_000,
        LENGTHS.pack(2, 10) + b"{}123",
        b"\0\0",
    ],
)
def test_what_is_no_message_is_refused(sent: bytes) -> None:
    here, there = socket.socketpair()
    with here, there:
        writer = threading.Thread(target=there.sendall, args=(sent,))
        writer.start()
        if len(sent) < 1000:
            writer.join()
            there.close()
        with pytest.raises(ProtocolError):
            receive(here)
        writer.join()


def test_a_message_arrives_as_it_was_sent() -> None:
    here, there = socket.socketpair()
    message = Message({"text": "größe \ud800"}, struct.pack("<Q", 7) * 100_000)
    with here, there:
        writer = threading.Thread(target=send, args=(there, message))
        writer.start()
        assert receive(here) == message
        writer.join()
        there.close()
        assert receive(here) is None
