"""`python -m service`: the catalog on LAB_HTTP_PORT, its claims on LAB_METRICS_PORT, the truth on LAB_LEDGER_PORT."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
from typing import TYPE_CHECKING

from catalog_cache import CatalogCache

from service.catalog import Lookups
from service.claims import RuntimeView
from service.config import LOOPBACK, ConfigError, ServiceConfig, variable
from service.events import emit
from service.metrics import MeasuredRequests, RequestMetrics, make_registry
from service.routes import catalog_app, ledger_app, metrics_app
from service.schedule import Schedule
from service.server import ByPort, Server, address, listen, raise_file_limit

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp


class BindError(Exception):
    """An address that cannot be listened on, and the variable to change."""


def open_sockets(config: ServiceConfig) -> tuple[socket.socket, socket.socket, socket.socket]:
    """The three listening sockets: catalog, metrics, ledger.

    Raises:
        BindError: one of them cannot be bound.
    """
    with contextlib.ExitStack() as opened:
        sockets = []
        for name, host, port in (
            (variable("http_port"), config.host, config.http_port),
            (variable("metrics_port"), config.host, config.metrics_port),
            (variable("ledger_port"), LOOPBACK, config.ledger_port),
        ):
            try:
                sockets.append(opened.enter_context(contextlib.closing(listen(host, port))))
            except OSError as error:
                raise BindError(
                    f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}. "
                    f"Set {name} to a free port (0: any), or {variable('host')} to an address of this machine."
                ) from error
        opened.pop_all()
    return sockets[0], sockets[1], sockets[2]


async def serve(config: ServiceConfig) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        BindError: a port is taken.
    """
    raise_file_limit()
    sockets = catalog, metrics, ledger = open_sockets(config)

    cache = CatalogCache(config.leak)
    # What start-up made lives as long as the process. Frozen, it is no longer walked by full collections, which held up
    # the event loop for 4 to 8 ms each.
    gc.collect()
    gc.freeze()
    view = RuntimeView(config.memory_limit_bytes)
    registry = make_registry(view)
    schedule = Schedule(config.speed)
    cache.start()
    lookups = Lookups(cache, schedule)

    def say_listening() -> None:
        emit("listening", http=address(catalog), metrics=address(metrics), ledger=address(ledger), pid=os.getpid())

    apps: dict[int, ASGIApp] = {
        catalog.getsockname()[1]: MeasuredRequests(
            catalog_app(view, lookups, stopping=lambda: server.should_exit), RequestMetrics(registry)
        ),
        metrics.getsockname()[1]: metrics_app(registry),
        ledger.getsockname()[1]: ledger_app(cache, schedule),
    }
    server = Server(ByPort(apps), say_listening, on_grace_over=lookups.close)
    await server.serve(list(sockets))

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
