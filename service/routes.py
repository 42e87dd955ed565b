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

from service.catalog import ITEMS, HungUpError, UnavailableError
from service.health import assess, report
from service.probes import encode
from service.protocol import HUNG_UP

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog_cache import CatalogCache
    from prometheus_client import CollectorRegistry
    from starlette.requests import Request

    from service.catalog import Lookups
    from service.claims import RuntimeView
    from service.probes import Body
    from service.schedule import Schedule

__all__ = ["catalog_app", "health_body", "ledger_app", "metrics_app", "ready_body"]

# The status under which such a request is counted. No standard has one; this is nginx's. The client never sees it.
CLIENT_HUNG_UP = 499


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


def health_body(view: RuntimeView) -> Body:
    """The answer of ``/health``."""
    claims = view.read()
    return encode(200 if assess(claims).alive else 503, report(claims))


def ready_body(stopping: bool) -> Body:
    """The answer of ``/ready``."""
    return encode(503 if stopping else 200, {"ready": not stopping})


def _json(body: Body) -> Response:
    return Response(body.text, body.status, media_type="application/json")


def catalog_app(view: RuntimeView, lookups: Lookups, *, stopping: Callable[[], bool]) -> Starlette:
    """``/``, ``/health``, ``/ready`` and ``/api/items/{id}``."""

    async def index(_: Request) -> Response:
        return JSONResponse({"service": "catalog", "endpoints": ["/health", "/ready", "/api/items/{id}"]})

    async def health(_: Request) -> Response:
        return _json(health_body(view))

    async def ready(_: Request) -> Response:
        return _json(ready_body(stopping()))

    async def item(request: Request) -> Response:
        number = _item_number(request.path_params["id"])
        try:
            hung_up = (request.scope.get("extensions") or {}).get(HUNG_UP, bool)
            return JSONResponse(asdict(await lookups.item(number, hung_up)))
        except UnavailableError as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from None
        except HungUpError:
            return Response(status_code=CLIENT_HUNG_UP)

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
