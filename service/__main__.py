"""`python -m service`: the catalog on LAB_HTTP_PORT, its claims on LAB_METRICS_PORT, the truth on LAB_LEDGER_PORT."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from catalog_cache import CatalogCache

from service.catalog import Lookups
from service.claims import RuntimeView
from service.config import ConfigError, ServiceConfig
from service.events import emit, open_standard_files, report_error
from service.limits import Limits, raise_file_limit
from service.listeners import StartError, address, open_listeners
from service.metrics import MeasuredRequests, RequestMetrics, make_registry
from service.probes import Probes
from service.routes import catalog_app, health_body, ledger_app, metrics_app, ready_body
from service.schedule import Schedule
from service.server import ByPort, Server

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp

# How long a thread keeps the interpreter while another wants it, in seconds: a probe takes it five times. 5 ms is
# Python's own, and was 30 ms of a probe beside a busy event loop.
SWITCH_SECONDS: Final = 0.0005
STOPS: Final = (signal.SIGTERM, signal.SIGINT)


class Service:
    """Everything behind the listening sockets, from the leak to the three HTTP applications."""

    def __init__(self, config: ServiceConfig, listeners: tuple[socket.socket, socket.socket, socket.socket]) -> None:
        self._stops = False
        self._listeners = catalog, metrics, ledger = listeners
        self._cache = CatalogCache(config.leak)
        self._view = RuntimeView(config.memory_limit_bytes)
        registry = make_registry(self._view)
        requests = RequestMetrics(registry)
        self._schedule = Schedule(config.speed)
        self._lookups = Lookups(self._cache, self._schedule)
        apps: dict[int, ASGIApp] = {
            catalog.getsockname()[1]: MeasuredRequests(
                catalog_app(self._view, self._lookups, stopping=self._stopping), requests
            ),
            metrics.getsockname()[1]: metrics_app(registry),
            ledger.getsockname()[1]: ledger_app(self._cache, self._schedule),
        }
        bodies = {"/health": lambda: health_body(self._view), "/ready": lambda: ready_body(self._stopping())}
        self._server = Server(
            ByPort(apps),
            listeners,
            self._start,
            limits=Limits.of_files(raise_file_limit(), len(listeners)),
            probes=Probes(bodies, requests),
            on_grace_over=self._lookups.close,
        )

    def run(self) -> None:
        """Serve until `stop`."""
        asyncio.run(self._server.serve())
        self._lookups.close()
        # The thread ends here; the memory goes back with the process, all at once. To walk and free gigabytes of
        # entries first (`cache.close`) would only delay the exit, and would hide from a tracer that they were never
        # freed.
        self._cache.stop()
        emit("stopped", uptime_seconds=round(self._view.read().uptime_seconds, 3))

    def stop(self) -> None:
        """End `run`, from any thread."""
        self._stops = True
        self._server.should_exit = True

    def _stopping(self) -> bool:
        return self._stops

    def _start(self) -> None:
        # In this order: whose thread comes first has an arena first.
        try:
            self._lookups.start()
            self._schedule.restart()
            self._cache.start()
        except (OSError, RuntimeError) as error:
            raise StartError(f"{error}. Raise the limit on memory (ulimit -v) or on processes (ulimit -u).") from error
        catalog, metrics, ledger = map(address, self._listeners)
        emit("listening", http=catalog, metrics=metrics, ledger=ledger, pid=os.getpid())


def run(config: ServiceConfig) -> None:
    """Run the service until SIGTERM or SIGINT.

    The event loop has a thread of its own, which has a malloc arena of its own: 64 MiB of addresses that are reserved
    from the start. When the leak has used up what the process may have (``ulimit -v``), malloc tries the main thread's
    arena for it and no other, so that the loop's memory and the front's are still there.

    Raises:
        StartError: a port is taken, or there are no threads to be had.
    """
    listeners = open_listeners(config)
    sys.setswitchinterval(SWITCH_SECONDS)
    # For the threads as well, which inherit it: a signal waits until this thread asks for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    service = Service(config, listeners)
    # What start-up made lives as long as the process. Frozen, it is no longer walked by full collections, which held up
    # the event loop for 4 to 8 ms each.
    gc.collect()
    gc.freeze()
    with ThreadPoolExecutor(1, thread_name_prefix="server") as threads:
        main_thread = threading.get_ident()
        serving = threads.submit(service.run)
        serving.add_done_callback(lambda _: signal.pthread_kill(main_thread, signal.SIGTERM))
        signal.sigwait(STOPS)
        service.stop()
        serving.result()


def main() -> int:
    """Run the service: exit status 0 after a stop, 1 if a port is taken, 2 if the configuration is wrong."""
    open_standard_files()
    try:
        run(ServiceConfig.from_environ(os.environ))
    except ConfigError as error:
        report_error("service", error)
        return 2
    except StartError as error:
        report_error("service", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
