"""`python -m service`: the catalog on LAB_HTTP_PORT, its claims on LAB_METRICS_PORT, the truth on LAB_LEDGER_PORT."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from typing import TYPE_CHECKING

from catalog_cache import CatalogCache

from service.catalog import Lookups
from service.claims import RuntimeView
from service.config import ConfigError, ServiceConfig
from service.events import emit
from service.listeners import BindError, Limits, address, open_listeners, raise_file_limit
from service.metrics import MeasuredRequests, RequestMetrics, make_registry
from service.probes import Probes
from service.routes import catalog_app, health_body, ledger_app, metrics_app, ready_body
from service.schedule import Schedule
from service.server import ByPort, Server

if TYPE_CHECKING:
    from starlette.types import ASGIApp

# How long a thread keeps the interpreter while another wants it, in seconds: a probe takes it five times. 5 ms is
# Python's own, and was 30 ms of a probe beside a busy event loop.
SWITCH_SECONDS = 0.0005


async def serve(config: ServiceConfig) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        BindError: a port is taken.
    """
    files = raise_file_limit()
    listeners = catalog, metrics, ledger = open_listeners(config)
    sys.setswitchinterval(SWITCH_SECONDS)

    cache = CatalogCache(config.leak)
    # What start-up made lives as long as the process. Frozen, it is no longer walked by full collections, which held up
    # the event loop for 4 to 8 ms each.
    gc.collect()
    gc.freeze()
    view = RuntimeView(config.memory_limit_bytes)
    registry = make_registry(view)
    requests = RequestMetrics(registry)
    schedule = Schedule(config.speed)
    cache.start()
    lookups = Lookups(cache, schedule)

    def stopping() -> bool:
        return server.should_exit

    def say_listening() -> None:
        emit("listening", http=address(catalog), metrics=address(metrics), ledger=address(ledger), pid=os.getpid())

    apps: dict[int, ASGIApp] = {
        catalog.getsockname()[1]: MeasuredRequests(catalog_app(view, lookups, stopping=stopping), requests),
        metrics.getsockname()[1]: metrics_app(registry),
        ledger.getsockname()[1]: ledger_app(cache, schedule),
    }
    server = Server(
        ByPort(apps),
        listeners,
        say_listening,
        limits=Limits.of_files(files, len(listeners)),
        on_grace_over=lookups.close,
    )
    server.probes = Probes({"/health": lambda: health_body(view), "/ready": lambda: ready_body(stopping())}, requests)
    await server.serve()

    lookups.close()
    # The thread ends here; the memory goes back with the process, all at once. To walk and free gigabytes of entries
    # first (`cache.close`) would only delay the exit, and would hide from a tracer that they were never freed.
    cache.stop()
    emit("stopped", uptime_seconds=round(view.read().uptime_seconds, 3))


def main() -> int:
    """Run the service: exit status 0 after a stop, 1 if a port is taken, 2 if the configuration is wrong."""
    try:
        config = ServiceConfig.from_environ(os.environ)
    except ConfigError as error:
        sys.stderr.write(f"service: {error}\n")
        return 2
    try:
        asyncio.run(serve(config))
    except BindError as error:
        sys.stderr.write(f"service: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
