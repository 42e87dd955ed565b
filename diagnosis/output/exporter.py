"""The tracer's numbers for Prometheus.

Labels are `command`, `function`, `caller` and `module`: the innermost function that somebody can change, the one that
called it, and the object that the first is in; of a Python function, its file. There are at most `MAX_SITES` of them;
what comes later is counted under `[other]`, so that a program with a thousand call sites costs Prometheus no more than
one with fifty.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath
from threading import Lock
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from diagnosis.base.errors import LabError
from diagnosis.output.metrics_server import MetricsServer
from diagnosis.report.lost import NAMES
from diagnosis.report.site import call_site
from diagnosis.report.wrappers import first_own
from diagnosis.trace.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric

    from diagnosis.target.symbols import Frame
    from diagnosis.trace.measured import Measured, Names
    from diagnosis.trace.snapshot import Snapshot

MAX_SITES = 50
LAST_PORT = 65_535
# More are no number of a port, and Python reads no number of thousands.
MOST_DIGITS = 5
OTHER = ("[other]", "", "")
LABELS = ("command", "function", "caller", "module")


class TraceCollector(Collector):
    """Reads the tracer at each scrape. Counts are since the collector was made."""

    def __init__(self, tracer: Measured, symbolizer: Names) -> None:
        self._tracer, self._symbolizer = tracer, symbolizer
        self._command = PurePosixPath(tracer.process.command.split(" ", 1)[0]).name
        self._first: Snapshot = tracer.snapshot()
        self._sites: dict[int, tuple[str, str, str]] = {}
        self._shown: set[tuple[str, str, str]] = set()
        self._lock = Lock()
        self._closed = False

    def close(self) -> None:
        """Read the tracer no more, from when this returns: it is about to be closed."""
        with self._lock:
            self._closed = True

    def describe(self) -> Iterable[Metric]:
        """Nothing: asking would read the tracer."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """One reading; none after `close`."""
        with self._lock:
            return [] if self._closed else list(self._collect())

    def _collect(self) -> Iterable[Metric]:
        outstanding = GaugeMetricFamily(
            "memleak_outstanding_bytes", "Bytes allocated under the trace and not freed yet.", labels=LABELS
        )
        allocations = CounterMetricFamily("memleak_allocations", "Blocks allocated.", labels=LABELS)
        frees = CounterMetricFamily("memleak_frees", "Blocks freed that were allocated under the trace.", labels=LABELS)
        now = self._tracer.snapshot()
        for site, counts in self._by_site(now).items():
            labels = (self._command, *site)
            outstanding.add_metric(labels, counts.outstanding_bytes)
            allocations.add_metric(labels, counts.allocations)
            frees.add_metric(labels, counts.frees)
        lost = CounterMetricFamily(
            "memleak_lost_events", "Events that were not counted, or not under their stack.", labels=("command", "kind")
        )
        for kind, count in self._tracer.lost().items():
            lost.add_metric((self._command, kind.name.lower()), count)
        lost.add_metric((self._command, NAMES), len(self._symbolizer.lost_names()))
        yield from (outstanding, allocations, frees, lost)
        yield from self._older(now)
        yield from self._memory()

    def _older(self, now: Snapshot) -> Iterable[Metric]:
        """Frees of blocks from before the trace: less these, what is outstanding is the growth of the live heap."""
        older, first = now.older, self._first.older
        if older is None or first is None:
            return
        frees = CounterMetricFamily(
            "memleak_older_frees", "Blocks freed that are older than the trace.", labels=("command",)
        )
        freed = CounterMetricFamily(
            "memleak_older_freed_bytes", "Bytes of such blocks, where the allocator tells.", labels=("command",)
        )
        frees.add_metric((self._command,), older.frees - first.frees)
        freed.add_metric((self._command,), older.bytes - first.bytes)
        yield from (frees, freed)

    def _memory(self) -> Iterable[Metric]:
        """What the kernel counts, by kind. Finer parts would make it walk the process's page tables at each scrape."""
        resident = GaugeMetricFamily(
            "memleak_resident_bytes", "Resident memory as the kernel counts it.", labels=("command",)
        )
        kinds = GaugeMetricFamily(
            "memleak_memory_bytes",
            "Memory of the process, by kind.",
            labels=("command", "kind"),
        )
        try:
            now = self._tracer.process.resident()
        except LabError:
            return  # it has ended: it holds nothing, and saying 0 would look like a fall
        resident.add_metric((self._command,), now.total_bytes)
        for kind, size in (
            ("anonymous", now.anonymous_bytes),
            ("file", now.total_bytes - now.anonymous_bytes - now.shared_bytes),
            ("shared", now.shared_bytes),
            ("swapped", now.swapped_bytes),
        ):
            kinds.add_metric((self._command, kind), size)
        yield from (resident, kinds)

    def _by_site(self, now: Snapshot) -> dict[tuple[str, str, str], Counts]:
        totals: defaultdict[tuple[str, str, str], Counts] = defaultdict(Counts)
        changes = now.since(self._first)
        # The largest first, so that they have the labels while there are some to give; a site keeps its own.
        for stack, counts in sorted(changes.items(), key=lambda item: -item[1].outstanding_bytes):
            site = self._site(stack)
            totals[site] = totals[site] + counts
        return totals

    def _site(self, stack: int) -> tuple[str, str, str]:
        if stack not in self._sites:
            tracer = self._tracer
            found = self._symbolizer.symbolize(tracer.frames(stack), tracer.ending(stack), tracer.python(stack))
            frames = found.frames
            site = (*call_site(frames), _object(frames[first_own(frames)]) if frames else "")
            if site not in self._shown and len(self._shown) >= MAX_SITES:
                site = OTHER
            self._shown.add(site)
            self._sites[stack] = site
        return self._sites[stack]


def _object(frame: Frame) -> str:
    """What a function is in. All Python functions run in one module of native code: their files tell them apart."""
    return frame.file_name if frame.python else frame.module


def serve(tracer: Measured, symbolizer: Names, address: str) -> Callable[[], None]:
    """Serve the metrics at HOST:PORT; returns what stops it.

    Raises:
        LabError: the address is none, or is taken.
    """
    host, separator, port = address.rpartition(":")
    host = host.strip("[]")
    if not separator or not host or not port.isdecimal():
        raise LabError(f"--listen {address} is no address", "write --listen 127.0.0.1:9435")
    if len(port) > MOST_DIGITS or int(port) > LAST_PORT:
        raise LabError(
            f"--listen has port {port[:20]}: a port is from 0 to {LAST_PORT}, and 0 takes a free one",
            "write --listen 127.0.0.1:9435",
        )
    registry = CollectorRegistry()
    collector = TraceCollector(tracer, symbolizer)
    registry.register(collector)
    try:
        server = MetricsServer((host, int(port)), registry)
    except OSError as error:
        raise LabError(f"--listen {address}: {error.strerror}", "choose a free port of this machine") from error
    server.start()

    def stop() -> None:
        server.stop()
        collector.close()

    return stop
