from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import h11
import pytest
from prometheus_client import CollectorRegistry

from service.metrics import RequestMetrics
from service.probes import Probes, encode

if TYPE_CHECKING:
    from service.probes import Body

REQUEST = b"GET /health HTTP/1.1\r\nHost: catalog\r\n\r\n"


class Answering:
    """Probes whose only path answers with `body`, or raises it."""

    def __init__(self) -> None:
        self.body: Body | Exception = encode(200, {"status": "healthy"})
        self.registry = CollectorRegistry()
        self.probes = Probes({"/health": self._get}, RequestMetrics(self.registry))

    def _get(self) -> Body:
        if isinstance(self.body, Exception):
            raise self.body
        return self.body

    def counted(self, **labels: str) -> float | None:
        return self.registry.get_sample_value("http_requests_total", {"path": "/health", **labels})


def parsed(response: bytes, method: str = "GET") -> tuple[int, dict[bytes, bytes], bytes]:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/health", headers=[("host", "catalog")]))
    client.send(h11.EndOfMessage())
    client.receive_data(response)
    head = client.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(data := client.next_event(), h11.Data):
        body += bytes(data.data)
    assert isinstance(data, h11.EndOfMessage)
    assert client.trailing_data[0] == b""
    return head.status_code, dict(head.headers), body


def test_a_probe_is_answered_and_counted() -> None:
    answering = Answering()
    answer = answering.probes.answer(REQUEST)
    assert answer
    assert not answer.closes
    status, headers, body = parsed(answer.response)
    assert (status, body) == (200, b'{"status":"healthy"}')
    assert headers[b"content-type"] == b"application/json"
    assert answering.counted(method="GET", status="200") == 1


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /health HTTP/1.1\r\nHost: catalog\r\nConnection: close\r\n\r\n",
        b"GET /health HTTP/1.0\r\n\r\n",
    ],
)
def test_a_client_that_wants_it_closed_has_it_closed(request_: bytes) -> None:
    answer = Answering().probes.answer(request_)
    assert answer
    assert answer.closes
    assert parsed(answer.response)[1][b"connection"] == b"close"


def test_head_has_the_length_and_no_body() -> None:
    answering = Answering()
    answer = answering.probes.answer(REQUEST.replace(b"GET", b"HEAD"))
    assert answer
    status, headers, body = parsed(answer.response, "HEAD")
    assert (status, headers[b"content-length"], body) == (200, b"20", b"")
    assert answering.counted(method="HEAD", status="200") == 1


def test_an_unhealthy_status_is_passed_on() -> None:
    answering = Answering()
    answering.body = encode(503, {"status": "unhealthy"})
    answer = answering.probes.answer(REQUEST)
    assert answer
    assert parsed(answer.response)[0] == 503


@pytest.mark.parametrize(
    "request_",
    {
        "another path": b"GET /healthz HTTP/1.1\r\nHost: catalog\r\n\r\n",
        "another method": b"POST /health HTTP/1.1\r\nHost: catalog\r\n\r\n",
        "not whole": REQUEST[:-2],
        "two at once": REQUEST * 2,
        "one and a part": REQUEST + b"G",
        "a body": b"GET /health HTTP/1.1\r\nHost: catalog\r\nContent-Length: 1\r\n\r\nx",
        "a body to come": b"GET /health HTTP/1.1\r\nHost: catalog\r\nContent-Length: 1\r\n\r\n",
        "an expectation": b"GET /health HTTP/1.1\r\nHost: catalog\r\nExpect: 100-continue\r\n\r\n",
        "an upgrade": b"GET /health HTTP/1.1\r\nHost: catalog\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "malformed": b"GET /health HTTP/1.1\r\n\r\n",
        "nothing": b"",
    }.values(),
)
def test_what_is_more_than_a_probe_is_left_to_the_server(request_: bytes) -> None:
    answering = Answering()
    assert answering.probes.answer(request_) is None
    assert answering.counted(method="GET", status="200") is None


def test_without_memory_for_an_answer_the_last_one_is_given() -> None:
    answering = Answering()
    answering.body = encode(200, {"status": "healthy", "number": 1})
    answering.probes.answer(REQUEST)
    answering.body = MemoryError()
    answer = answering.probes.answer(REQUEST)
    assert answer
    assert answer.closes
    assert parsed(answer.response)[2] == b'{"status":"healthy","number":1}'


def test_without_memory_to_count_an_answer_it_is_given_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object) -> NoReturn:
        raise RuntimeError("can't allocate lock")

    monkeypatch.setattr(RequestMetrics, "count", cannot)
    answer = Answering().probes.answer(REQUEST)
    assert answer
    assert parsed(answer.response)[0] == 200
