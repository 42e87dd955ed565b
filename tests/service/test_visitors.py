from __future__ import annotations

import asyncio
import itertools
import random
import re
import signal
import time
from typing import TYPE_CHECKING

import httpx

from service import visitors
from service.visitors import Visitors
from tests.support.running_service import running_service, running_visitors
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import pytest

    from tests.support.running_service import Service


def visits(service: Service) -> float:
    return service.value("http_requests_total", path="/api/items/{id}", status="200")


def test_visitors_ask_for_items_at_a_steady_rate_and_now_and_then_for_the_front_page(service: Service) -> None:
    with running_visitors(LAB_TARGET_URL=f"http://{service.http}", LAB_VISITORS_PER_SECOND="50") as program:
        wait_until(lambda: visits(service) > 0, "the first visit")
        started, before = time.monotonic(), visits(service)
        wait_until(lambda: visits(service) >= before + 100, "a hundred visits")
        assert time.monotonic() - started > 1.5, "they take 2 s at this rate, or more on a busy machine"
        assert service.value("http_requests_total", path="/", status="200") >= 4
        assert (
            service.value("http_requests_total", status="400")
            == service.value("http_requests_total", status="404")
            == 0
        )
        program.stop()
        assert program.process.returncode == 0
        assert program.stderr() == ""


def test_visitors_outlive_the_service_and_come_back() -> None:
    with running_service() as service:
        port = str(service.port)
        with running_visitors(LAB_TARGET_URL=f"http://{service.http}", LAB_VISITORS_PER_SECOND="50") as program:
            wait_until(lambda: visits(service) > 5, "some visits")
            service.stop(signal.SIGKILL)
            assert program.event()["event"] == "away"
            with running_service(LAB_HTTP_PORT=port) as again:
                assert program.event() == {"event": "back"}
                wait_until(lambda: visits(again) > 5, "visits again")
            assert program.event()["event"] == "away"
            program.stop()
            assert program.process.returncode == 0
            assert program.process.stdout
            assert program.process.stdout.read() == ""
            assert program.stderr() == ""


def test_visitors_may_start_before_the_service() -> None:
    with running_visitors(LAB_TARGET_URL="http://127.0.0.1:9") as program:
        event = program.event()
        assert event["event"] == "away"
        assert event["reason"].startswith("ConnectError")
        program.stop()


def test_visitors_do_not_drown_a_service_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "UNDER_WAY", 3)
    asked: list[str] = []
    third, fifty_later = asyncio.Event(), asyncio.Event()
    others: list[str] = []

    async def at_once(request: httpx.Request) -> httpx.Response:
        others.append(request.url.path)
        if len(others) == 50:
            fifty_later.set()
        return httpx.Response(200)

    async def never(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if len(asked) == 3:
            third.set()
        await asyncio.Event().wait()
        return httpx.Response(200)

    async def visit() -> None:
        async with (
            httpx.AsyncClient(transport=httpx.MockTransport(never), base_url="http://catalog") as silent,
            httpx.AsyncClient(transport=httpx.MockTransport(at_once), base_url="http://catalog") as answering,
        ):
            running = asyncio.create_task(Visitors(silent, 1000, random.Random(1)).run())
            await third.wait()
            clock = asyncio.create_task(Visitors(answering, 1000, random.Random(1)).run())
            await fifty_later.wait()  # as many more were due
            for task in (running, clock):
                task.cancel()
            await asyncio.wait([running, clock])

    asyncio.run(visit())
    assert len(asked) == 3


def test_one_visit_in_twenty_is_to_the_front_page() -> None:
    asked = list(itertools.islice(visitors.paths(random.Random(1)), 200))
    assert asked.count("/") == 10
    items = [path for path in asked if path != "/"]
    assert all(re.fullmatch(r"/api/items/\d{1,6}", path) for path in items)
    assert len(set(items)) > 180
