from __future__ import annotations

import asyncio
import gc
import itertools
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import httpx
import pytest
from catalog_cache import MIB, CatalogCache, Options
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from service.catalog import ITEMS, Lookups, make_item
from service.claims import RuntimeView
from service.metrics import MeasuredRequests, RequestMetrics, make_registry
from service.routes import catalog_app, ledger_app, metrics_app
from service.schedule import Schedule
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from service.claims import Claims

LIMIT = 2560 * MIB


def ask(app: ASGIApp, method: str, path: str, **headers: str) -> httpx.Response:
    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://catalog") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(exchange())


class PresetView(RuntimeView):
    """Claims with some figures replaced."""

    def __init__(self, **figures: float) -> None:
        super().__init__(LIMIT)
        self._figures = figures

    def read(self) -> Claims:
        return replace(super().read(), **self._figures)  # type: ignore[arg-type]


@pytest.fixture
def cache() -> Iterator[CatalogCache]:
    options = Options(start_delay_seconds=0, period_seconds=0.001, cap_bytes=2 * MIB)
    with CatalogCache(options) as cache:
        cache.start()
        wait_until(lambda: cache.ledger().refreshes >= 2, "two refreshes")
        cache.stop()
        yield cache


@pytest.fixture
def lookups(cache: CatalogCache) -> Iterator[Lookups]:
    lookups = Lookups(cache, Schedule(1))
    yield lookups
    lookups.close()


@pytest.fixture
def app(lookups: Lookups) -> Starlette:
    return catalog_app(RuntimeView(LIMIT), lookups, stopping=lambda: False)


def test_an_item_is_derived_from_its_id_and_the_caches_revision(app: Starlette) -> None:
    answer = ask(app, "GET", "/api/items/421234")
    assert answer.status_code == 200
    body = answer.json()
    assert body == {"id": 421234, "name": "Copper clock no. 4212", "price_cents": body["price_cents"], "revision": 2}
    assert 500 <= body["price_cents"] < 20_500
    assert ask(app, "GET", "/api/items/421234").json() == body


def test_neighbours_differ_and_a_revision_moves_the_price() -> None:
    assert len({make_item(number, 1).name for number in range(0, ITEMS, 997)}) == len(range(0, ITEMS, 997))
    assert make_item(7, 1).price_cents != make_item(7, 2).price_cents


@pytest.mark.parametrize("number", [0, 999_999, "000007"])
def test_ids_at_the_edges_are_known(app: Starlette, number: object) -> None:
    assert ask(app, "GET", f"/api/items/{number}").json()["id"] == int(str(number))


@pytest.mark.parametrize("number", ["1000000", "99999999", "9" * 5000])
def test_an_unknown_id_is_404(app: Starlette, number: str) -> None:
    answer = ask(app, "GET", f"/api/items/{number}")
    assert (answer.status_code, answer.json()) == (404, {"error": "no such item: ids go from 0 to 999999"})


@pytest.mark.parametrize("text", ["x", "-1", "+1", "1_0", "1.5", "1e3", "%20", "%D9%A1", "%00", "%FF", "0x10"])
def test_a_malformed_id_is_400(app: Starlette, text: str) -> None:
    answer = ask(app, "GET", f"/api/items/{text}")
    assert answer.status_code == 400
    assert answer.json() == {"error": "an item's id is a whole number from 0 to 999999"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/health/", 404),
        ("GET", "/api/items/", 404),
        ("GET", "/api/items/1/2", 404),
        ("POST", "/health", 405),
        ("DELETE", "/api/items/1", 405),
    ],
)
def test_errors_are_json(app: Starlette, method: str, path: str, status: int) -> None:
    answer = ask(app, method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_health_follows_the_claims(lookups: Lookups) -> None:
    high = ask(catalog_app(PresetView(memory_usage_percent=85.0), lookups, stopping=lambda: False), "GET", "/health")
    assert (high.status_code, high.json()["status"]) == (200, "degraded")
    critical = ask(
        catalog_app(PresetView(memory_usage_percent=99.0), lookups, stopping=lambda: False), "GET", "/health"
    )
    assert (critical.status_code, critical.json()["status"]) == (503, "unhealthy")
    assert critical.json()["health_checks"]["memory"] == "critical"


def test_ready_until_the_service_stops(lookups: Lookups) -> None:
    stopping = False
    app = catalog_app(RuntimeView(LIMIT), lookups, stopping=lambda: stopping)
    assert (ask(app, "GET", "/ready").status_code, ask(app, "GET", "/ready").json()) == (200, {"ready": True})
    stopping = True
    assert (ask(app, "GET", "/ready").status_code, ask(app, "GET", "/ready").json()) == (503, {"ready": False})


def test_the_ledger_has_every_figure(cache: CatalogCache) -> None:
    body = ask(ledger_app(cache, Schedule(3.0)), "GET", "/ledger").json()
    elapsed = body.pop("elapsed_seconds")
    assert 0 <= elapsed < 30
    assert isinstance(body.pop("pid"), int)
    assert body.pop("idle_intervals")[1:] == [asdict(idle) for idle in cache.ledger().idle_intervals[1:]]
    assert body == {
        "inserts_begun": 32,
        "inserts": 32,
        "insert_failures": 0,
        "insert_bytes": 2 * MIB,
        "entries_live": 32,
        "bytes_live": 2 * MIB,
        "refreshes": cache.ledger().refreshes,
        "phase": "normal",
        "speed": 3.0,
        "chunk_bytes": 65_536,
        "cap_bytes": 2 * MIB,
    }


def test_metrics_are_the_claims_in_the_format_that_is_asked_for() -> None:
    app = metrics_app(make_registry(PresetView(resident_bytes=123_456, memory_usage_percent=1.25)))
    plain = ask(app, "GET", "/metrics", accept="text/plain")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    lines = plain.text.splitlines()
    assert "process_resident_memory_bytes 123456.0" in lines
    assert "memory_usage_percent 1.25" in lines
    assert "service_health_status 1.0" in lines
    assert any(line.startswith("process_virtual_memory_bytes ") for line in lines)
    assert any(line.startswith('python_gc_collections_total{generation="2"}') for line in lines)
    assert not any(line.startswith("process_open_fds") for line in lines), "a collector that reads /proc is registered"
    open_metrics = ask(app, "GET", "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert open_metrics.text.endswith("# EOF\n")


def test_the_health_gauge_falls_when_a_claim_crosses_its_threshold() -> None:
    answer = ask(metrics_app(make_registry(PresetView(memory_usage_percent=81.0))), "GET", "/metrics")
    assert "service_health_status 0.0" in answer.text.splitlines()


async def _greet(_: Request) -> Response:
    return PlainTextResponse("hello")


async def _fail(_: Request) -> Response:
    raise LookupError("broken")


def test_requests_are_counted_and_timed_under_their_routes_template() -> None:
    registry = CollectorRegistry()
    ticks = iter(range(1000))
    app = MeasuredRequests(
        Starlette(routes=[Route("/greet/{name}", _greet), Route("/fail", _fail)]),
        RequestMetrics(registry),
        clock=lambda: next(ticks) / 1000,
    )
    for method, path in [
        ("GET", "/greet/a"),
        ("GET", "/greet/b"),
        ("POST", "/greet/a"),
        ("BREW", "/greet/a"),
        ("GET", "/fail"),
        ("GET", "/wp-admin.php"),
        ("GET", "/.env"),
    ]:
        ask(app, method, path)
    counts = {
        (sample.labels["method"], sample.labels["path"], sample.labels["status"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "http_requests_total"
    }
    assert counts == {
        ("GET", "/greet/{name}", "200"): 2,
        ("POST", "/greet/{name}", "405"): 1,
        ("OTHER", "/greet/{name}", "405"): 1,
        ("GET", "/fail", "500"): 1,
        ("GET", "unmatched", "404"): 2,
    }
    labels = {"method": "GET", "path": "/greet/{name}"}
    assert registry.get_sample_value("http_request_duration_seconds_count", labels) == 2
    assert registry.get_sample_value("http_request_duration_seconds_sum", labels) == pytest.approx(0.002)


def test_the_buckets_resolve_from_100_microseconds_to_a_second() -> None:
    registry = CollectorRegistry()
    RequestMetrics(registry).durations.labels("GET", "/").observe(0.1)
    bounds = [
        float(sample.labels["le"])
        for family in registry.collect()
        for sample in family.samples
        if sample.name.endswith("_bucket")
    ]
    assert bounds[0] == 0.0001
    assert bounds[-2:] == [1.0, float("inf")]
    steps = [high / low for low, high in itertools.pairwise(bounds[:-1])]
    assert max(steps) < 1.7, "a quantile would be off by more than that"


def test_every_answer_leaves_nothing_for_the_collector_to_complain_of(app: Starlette) -> None:
    before = sum(generation["uncollectable"] for generation in gc.get_stats())
    for _ in range(20):
        ask(app, "GET", "/api/items/x")
    gc.collect()
    assert sum(generation["uncollectable"] for generation in gc.get_stats()) == before
