from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from diagnosis.base.errors import LabError
from diagnosis.lab import ledger
from diagnosis.lab.ledger import ALIGN_TRIES, Alignment, IdleInterval, LedgerClient, align, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis.lab.ledger import Reading

BODY: dict[str, Any] = {
    "inserts": 32,
    "insert_failures": 0,
    "insert_bytes": 2_097_152,
    "entries_live": 32,
    "bytes_live": 2_097_152,
    "refreshes": 2,
    "elapsed_seconds": 120.0,
    "phase": "leaking",
    "speed": 60.0,
    "chunk_bytes": 65_536,
    "cap_bytes": 2_097_152_000,
    "idle_intervals": [
        {"since_ns": 200, "until_ns": 300, "inserts": 32, "insert_bytes": 2_097_152},
        {"since_ns": 100, "until_ns": 150, "inserts": 16, "insert_bytes": 1_048_576},
    ],
}
READING = parse(BODY)


def test_a_reading_has_every_field_of_the_ledger() -> None:
    assert asdict(READING) == {**BODY, "idle_intervals": tuple(BODY["idle_intervals"])}
    assert READING.idle_intervals[0] == IdleInterval(200, 300, 32, 2_097_152)


def test_what_else_the_ledger_says_is_left_out() -> None:
    assert parse({**BODY, "pid": 17, "inserts_begun": 32}) == READING


@pytest.mark.parametrize("name", list(BODY))
def test_a_missing_field_is_no_ledger(name: str) -> None:
    with pytest.raises(KeyError, match=name):
        parse({key: value for key, value in BODY.items() if key != name})


def test_the_rate_is_in_bytes_per_minute_of_real_time() -> None:
    """120 s of the story at speed 60 are 2 s."""
    assert READING.leaked_bytes_per_minute == pytest.approx(2_097_152 * 30)
    assert parse({**BODY, "elapsed_seconds": 0.0}).leaked_bytes_per_minute == 0


# --- over HTTP ---


@contextlib.contextmanager
def server(status: int, body: bytes, *, length: int | None = None) -> Iterator[str]:
    """A ledger's address that answers every request with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}/ledger"
        finally:
            listening.shutdown()
            thread.join()


def read(url: str) -> Reading:
    with contextlib.closing(LedgerClient(url)) as client:
        return client.read()


def refusal(url: str) -> str:
    with pytest.raises(LabError) as caught:
        read(url)
    text = str(caught.value)
    assert text.startswith(f"no ledger at {url}: ")
    assert "--ledger" in text
    return text


def test_a_ledger_is_read_over_http() -> None:
    with server(200, json.dumps(BODY).encode()) as url:
        assert read(url) == READING


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"{}", "the answer is 404 Not Found: name the service's"),
        (500, json.dumps(BODY).encode(), "500 Internal Server Error"),
        (302, b"", "302 Found"),
        (200, b"", "no JSON with what belongs there"),
        (200, b"<html>a page</html>", "no JSON with what belongs there"),
        (200, b"\xff\xfe\x00", "no JSON with what belongs there"),
        (200, b"[1, 2]", "no JSON with what belongs there"),
        (200, b"{}", "the answer has no 'inserts': name the service's"),
        (200, b"null", "no JSON with what belongs there"),
        (200, json.dumps({**BODY, "idle_intervals": [{}]}).encode(), "no JSON with what belongs there"),
    ],
)
def test_an_answer_that_is_no_ledger_is_an_error_with_the_reason(status: int, body: bytes, said: str) -> None:
    with server(status, body) as url:
        assert said in refusal(url)


def test_an_answer_that_breaks_off_is_an_error() -> None:
    with server(200, b"{", length=100) as url:
        assert "peer closed connection" in refusal(url)


def test_nobody_listening_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/ledger"
    assert ": Connection refused: " in refusal(url)


def test_an_error_that_says_nothing_goes_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise httpx.ReadError("")

    monkeypatch.setattr(httpx.Client, "get", fail)
    assert "ReadError" in refusal("http://127.0.0.1:9091/ledger")


def test_no_answer_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "timed out" in refusal(f"http://127.0.0.1:{silent.getsockname()[1]}/ledger")


@pytest.mark.parametrize("url", ["", "ledger", "ftp://127.0.0.1/ledger", "http://[::1/ledger", "http://a:port/"])
def test_an_address_that_is_none_is_an_error(url: str) -> None:
    refusal(url)


# --- alignment ---


class Story:
    """A leaker and a clock in one: each step of the story is a time in ns, or a refresh from one time to another."""

    def __init__(self, *steps: int | tuple[int, int]) -> None:
        self._times: list[int] = []
        self.idle = [IdleInterval(0, 0, 0, 0)]
        self._steps = list(steps)
        self.readings = 0

    def clock(self) -> int:
        """The next time; refreshes before it have happened."""
        while isinstance(step := self._steps.pop(0), tuple):
            last = self.idle[-1]
            self.idle[-1] = IdleInterval(last.since_ns, step[0], last.inserts, last.insert_bytes)
            self.idle.append(IdleInterval(step[1], step[1], last.inserts + 1, last.insert_bytes + 4096))
        last = self.idle[-1]
        self.idle[-1] = IdleInterval(last.since_ns, max(step, last.until_ns), last.inserts, last.insert_bytes)
        return step

    def read(self) -> Reading:
        self.readings += 1
        newest_first = [asdict(idle) for idle in reversed(self.idle)]
        return parse({**BODY, "idle_intervals": newest_first})


def test_what_is_taken_in_a_silence_belongs_to_its_counts() -> None:
    story = Story((10, 20), 30, 40)
    idle, taken = align(story.read, lambda: "taken", story.clock)
    assert (idle.inserts, taken) == (1, "taken")
    assert story.readings == 1


def test_a_refresh_after_the_taking_does_not_matter() -> None:
    """However long the ledger takes to answer: the silence is on record."""
    story = Story((10, 20), 30, 40, (50, 60), (70, 80), 90)

    def read() -> Reading:
        story.clock()
        return story.read()

    idle, _ = align(read, lambda: None, story.clock)
    assert idle == IdleInterval(20, 50, 1, 4096)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param((30, (35, 38), 40), id="a refresh within the taking"),
        pytest.param(((10, 31), 30, 60), id="a refresh that was under way when it began"),
        pytest.param((30, (38, 60), 50), id="a refresh that was still under way when it ended"),
    ],
)
def test_a_refresh_during_the_taking_makes_it_be_taken_again(first: tuple[int | tuple[int, int], ...]) -> None:
    story = Story(*first, 100, 110)
    takings = itertools.count(1)
    idle, taken = align(story.read, lambda: next(takings), story.clock)
    assert taken == 2
    assert idle.inserts == 1


def test_a_leaker_that_never_rests_is_an_error_that_says_what_to_do() -> None:
    steps = [step for at in range(0, 10 * ALIGN_TRIES, 10) for step in (at, (at + 1, at + 2), at + 3)]
    story = Story(*steps)
    with pytest.raises(LabError, match=rf"moved during each of {ALIGN_TRIES} readings: .*lower --speed"):
        align(story.read, lambda: None, story.clock)
    assert story.readings == ALIGN_TRIES


def test_a_leaker_that_does_not_rest_for_long_is_given_up() -> None:
    ten_seconds = 10_000_000_000
    steps = [step for at in range(0, 100 * ten_seconds, ten_seconds) for step in (at, (at + 1, at + 2), at + 3)]
    story = Story(*steps)
    with pytest.raises(LabError, match="moved during each of 5 readings"):
        align(story.read, lambda: None, story.clock)


@pytest.mark.parametrize("at", ["first", "last"])
def test_a_sample_is_taken_also_where_the_ledger_never_rests_and_the_window_has_no_grade(at: str) -> None:
    def read() -> Reading:
        raise LabError("no ledger at http://127.0.0.1:1/ledger: timed out")

    alignment = Alignment(read)
    assert alignment(lambda: at) == at
    assert alignment(lambda: at) == at
    assert alignment.window() is None
    assert alignment.missed == "no ledger at http://127.0.0.1:1/ledger: timed out"


def test_the_ledger_s_window_is_the_difference_between_its_ends() -> None:
    """GIVEN a ledger that counts 24 calls of 1 MiB between two samples THEN these are the window's."""
    inserts = itertools.count(100, 24)

    def read() -> Reading:
        calls = next(inserts)
        idle = {"since_ns": 0, "until_ns": 1 << 62, "inserts": calls, "insert_bytes": calls << 20}
        return parse({**BODY, "idle_intervals": [idle]})

    alignment = Alignment(read)
    assert alignment.window() is None
    assert alignment(lambda: "first") == "first"
    assert alignment.window() is None, "the process ended before the other end of the window"
    assert alignment(lambda: "last") == "last"
    window = alignment.window()
    assert window
    assert (window.bytes, window.calls) == (24 << 20, 24)
    assert (window.start.inserts, window.end.inserts) == (100, 124)
