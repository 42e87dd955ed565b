"""The three HTTP applications: the catalog for its clients, the claims for Prometheus, the ledger for the grader."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.catalog import ITEMS, UnavailableError
from service.health import assess, report

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog_cache import CatalogCache
    from prometheus_client import CollectorRegistry
    from starlette.requests import Request

    from service.catalog import Lookups
    from service.claims import RuntimeView
    from service.schedule import Schedule

__all__ = ["catalog_app", "ledger_app", "metrics_app"]


async def _json_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _app(*routes: Route) -> Starlette:
    app = Starlette(routes=routes, exception_handlers={HTTPException: _json_error})
    app.router.redirect_slashes = False  # /health/ is no route: a probe with a typo gets 404 and not a redirect
    return app


def _item_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text, re.ASCII):
        raise HTTPException(400, f"an item's id is a whole number from 0 to {ITEMS - 1}")
    # Length first: int() of a number with thousands of digits takes long, or fails.
    if len(text) > len(str(ITEMS)) or int(text) >= ITEMS:
        raise HTTPException(404, f"no such item: ids go from 0 to {ITEMS - 1}")
    return int(text)


def catalog_app(view: RuntimeView, lookups: Lookups, *, stopping: Callable[[], bool]) -> Starlette:
    """``/``, ``/health``, ``/ready`` and ``/api/items/{id}``."""

    async def index(_: Request) -> Response:
        return JSONResponse({"service": "catalog", "endpoints": ["/health", "/ready", "/api/items/{id}"]})

    async def health(_: Request) -> Response:
        claims = view.read()
        return JSONResponse(report(claims), 200 if assess(claims).alive else 503)

    async def ready(_: Request) -> Response:
        return JSONResponse({"ready": not stopping()}, 503 if stopping() else 200)

    async def item(request: Request) -> Response:
        number = _item_number(request.path_params["id"])
        try:
            return JSONResponse(asdict(await lookups.item(number)))
        except UnavailableError as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from None

    return _app(Route("/", index), Route("/health", health), Route("/ready", ready), Route("/api/items/{id}", item))


def metrics_app(registry: CollectorRegistry) -> Starlette:
    """``/metrics``, in the format that the scraper asks for."""

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return _app(Route("/metrics", metrics))


def ledger_app(cache: CatalogCache, schedule: Schedule) -> Starlette:
    """``/ledger``: what was really allocated, for grading a diagnosis."""

    async def ledger(_: Request) -> Response:
        return JSONResponse(
            {
                **asdict(cache.ledger()),
                "pid": os.getpid(),
                "elapsed_seconds": schedule.elapsed_seconds,
                "phase": schedule.phase,
                "speed": schedule.speed,
                "chunk_bytes": cache.options.chunk_bytes,
                "cap_bytes": cache.options.cap_bytes,
            }
        )

    return _app(Route("/ledger", ledger))
