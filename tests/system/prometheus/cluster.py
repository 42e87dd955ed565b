"""What a cluster's node serves to Prometheus, for processes that run outside any cluster.

The names, labels and extra rows are those of a kubelet 1.34 (/metrics/cadvisor, /metrics/probes) and of Inspektor
Gadget's OpenTelemetry exporter; the figures are the real ones of real processes, read when Prometheus asks.
"""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from grafana import vocabulary
from tests.support.running_service import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

NAMESPACE = "memleak-demo"
MIB = 1024 * 1024
PROBES = {"Liveness": "/health", "Readiness": "/ready"}
# The tracer's metrics as this project's gadget serves them: gauges, which have no `_total`.
OF_THE_GADGET = {quantity.tracer: quantity.gadget for quantity in vocabulary.QUANTITIES}
# The stock gadget counts events by the allocator's operation, and knows nothing of who called.
STOCK_OPERATIONS = {vocabulary.ALLOCATIONS.tracer: "malloc", vocabulary.FREES.tracer: "free"}
CGROUP_LABELS = ("container", "id", "image", "name", "namespace", "pod")
PROBE_LABELS = ("container", "namespace", "pod", "pod_uid", "probe_type", "result")


@dataclass
class Pod:
    """A process that a cluster would run as a pod. ``tracer`` is the address of its tracer's metrics."""

    name: str
    pid: int
    http: str
    tracer: str
    limit_bytes: int
    probed: Counter[tuple[str, str]] = field(default_factory=Counter)

    def probe(self) -> None:
        """Probe as a kubelet does, and count."""
        for probe, path in PROBES.items():
            try:
                passed = fetch(self.http, path).status_code == 200
            except httpx.HTTPError:
                passed = False
            self.probed[probe, "successful" if passed else "failed"] += 1

    def status_bytes(self, line: str) -> int:
        """One figure of /proc/PID/status."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(row for row in text.splitlines() if row.startswith(f"{line}:")).split()[1]) * 1024


class _Cadvisor(Collector):
    def __init__(self, pods: Iterable[Pod]) -> None:
        self._pods = pods

    def collect(self) -> Iterable[Metric]:
        for metric, line in (("container_memory_rss", "RssAnon"), ("container_memory_working_set_bytes", "VmRSS")):
            family = GaugeMetricFamily(metric, metric, labels=CGROUP_LABELS)
            family.add_metric(("", "/", "", "", "", ""), 8 * 1024 * MIB)
            for pod in self._pods:
                used = pod.status_bytes(line)
                # A pod's own row and its pause container's come without a container's name.
                family.add_metric(("", f"/kubepods/{pod.name}", "", "", NAMESPACE, pod.name), used + 16 * MIB)
                family.add_metric(("", f"/kubepods/{pod.name}/pause", "pause", "p", NAMESPACE, pod.name), MIB)
                family.add_metric(("leaker", f"/kubepods/{pod.name}/c", "memleak-demo", "c", NAMESPACE, pod.name), used)
            yield family
        limits = GaugeMetricFamily(
            "container_spec_memory_limit_bytes", "container_spec_memory_limit_bytes", labels=CGROUP_LABELS
        )
        for pod in self._pods:
            limits.add_metric(("", f"/kubepods/{pod.name}/pause", "pause", "p", NAMESPACE, pod.name), 0)
            limits.add_metric(
                ("leaker", f"/kubepods/{pod.name}/c", "memleak-demo", "c", NAMESPACE, pod.name), pod.limit_bytes
            )
        yield limits


class _Probes(Collector):
    def __init__(self, pods: Iterable[Pod]) -> None:
        self._pods = pods

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily("prober_probe", "prober_probe_total", labels=PROBE_LABELS)
        for pod in self._pods:
            for (probe, result), count in pod.probed.items():
                family.add_metric(("leaker", NAMESPACE, pod.name, "uid", probe, result), count)
        yield family


class _Gadget(Collector):
    """The tracers' own numbers, in the form in which Inspektor Gadget exports this project's gadget and the stock one.

    This project's gadget counts in its eBPF maps and hands out absolute values, all as gauges: a counter of
    OpenTelemetry would add them up. The stock one hands out events, and its counter does add them up.
    """

    def __init__(self, pods: Iterable[Pod]) -> None:
        self._pods = pods

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        calls: Counter[str] = Counter()
        for pod in self._pods:
            for family in text_string_to_metric_families(fetch(pod.tracer, "/metrics").text):
                for sample in family.samples:
                    if not (name := OF_THE_GADGET.get(sample.name)):
                        continue
                    if operation := STOCK_OPERATIONS.get(sample.name):
                        calls[operation] += int(sample.value)
                    own = families.setdefault(name, Metric(name, family.documentation, "gauge"))
                    own.add_sample(name, _gadget_labels(pod, sample.labels), sample.value)
                    untracked = families.setdefault(vocabulary.UNTRACKED, Metric(vocabulary.UNTRACKED, "", "gauge"))
                    if name == vocabulary.OUTSTANDING.gadget:
                        untracked.add_sample(untracked.name, _gadget_labels(pod, sample.labels), 0)
        yield from families.values()
        stock = CounterMetricFamily("calls", "allocator calls", labels=("operation", "otel_scope_name"))
        for operation, count in calls.items():
            stock.add_metric((operation, "trace_malloc"), count)
        yield stock


def _gadget_labels(pod: Pod, labels: Mapping[str, str]) -> dict[str, str]:
    """The gadget's labels of what the tracer found under its own. It knows no names, only places in files."""
    stack = zlib.crc32("/".join(labels.values()).encode())
    return {
        "command": labels["command"],
        "container": "leaker",
        "runtime_container": f"k8s_leaker_{pod.name}",
        "function": place(labels["module"], labels["function"]),
        "namespace": NAMESPACE,
        "pid": str(pod.pid),
        "pod": pod.name,
        "stack": str(stack),
        "otel_scope_name": "memleak",
        "otel_scope_version": "",
    }


def place(module: str, function: str) -> str:
    """A function as the gadget has it: its file, and an offset that is the same each time."""
    return f"{module}+{zlib.crc32(function.encode()) & 0xFFFF:#x}"


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A scraper that gave up waiting has closed its end: that is its own affair."""


class Node:
    """The node: serves /metrics/cadvisor, /metrics/probes and /gadget, and probes its pods once a second."""

    def __init__(self, pods: list[Pod]) -> None:
        self.pods = pods
        self._stopped = threading.Event()
        collectors: dict[str, Callable[[list[Pod]], Collector]] = {
            "/metrics/cadvisor": _Cadvisor,
            "/metrics/probes": _Probes,
            "/gadget": _Gadget,
        }
        registries = {}
        for path, collector in collectors.items():
            registries[path] = CollectorRegistry(auto_describe=False)
            registries[path].register(_Undescribed(collector(pods)))

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    body, status = generate_latest(registries[self.path]), 200
                except (httpx.HTTPError, OSError) as error:  # a process that pauses or has ended
                    body, status = str(error).encode(), 503
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._threads = [
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}),
            threading.Thread(target=self._probe),
        ]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()

    def _probe(self) -> None:
        while not self._stopped.wait(1):
            for pod in self.pods:
                pod.probe()


class _Undescribed(Collector):
    """A collector that is not asked at registration, when its processes may not answer yet."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._collector.collect()


@contextlib.contextmanager
def running_node(pods: list[Pod]) -> Iterator[Node]:
    node = Node(pods)
    node.start()
    try:
        yield node
    finally:
        node.stop()
