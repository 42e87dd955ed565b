"""The hour's story in a minute, run once for all tests: two services, their tracers, and two Prometheus servers.

``fast`` runs at speed 60 and leaks to a cap just before its story's hour is over; ``calm`` runs at speed 1 and is in
its first phase for half a minute. Plain Docker's Prometheus scrapes ``fast`` and its tracer; the cluster's scrapes both
as pods, with a node's cAdvisor and probes, and the tracers' numbers as Inspektor Gadget exports them. Prometheus
remembers, so every question is asked afterwards, about the moment that it is about.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from grafana import DATASOURCE_UID, dashboards, rules
from infra.prometheus_config import kubernetes_jobs
from tests.support.ports import free_port
from tests.support.prometheus import running_prometheus
from tests.support.running_service import fetch, running_service, running_visitors
from tests.support.screen import Screen, View
from tests.support.waiting import wait_until
from tests.system.prometheus.cluster import NAMESPACE, Pod, running_node

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.support.prometheus import Prometheus
    from tests.support.running_service import Service

MIB = 1024 * 1024
SPEED = 60
CAP_BYTES = 440 * MIB
LIMIT_BYTES = 2560 * MIB
VISITORS_PER_SECOND = 10
# Seconds of each service's own story at which it is looked at.
NORMAL_AT = 25
LEAKING_AT = 28.5 * 60
DEGRADED_AT = 57 * 60
# The cap is reached at 3550 s; then two scrapes and two evaluations of the rules see everything stand still.
SETTLED_AT = 3550 + 6 * SPEED


class Place(StrEnum):
    """Where the lab runs."""

    DOCKER = "docker"
    CLUSTER = "cluster"


@dataclass(frozen=True)
class Reading:
    """One service as it really was at a moment (seconds since 1970): its ledger, its claims, the kernel's figures."""

    at: float
    ledger: dict[str, Any]
    claims: dict[tuple[str, tuple[tuple[str, str], ...]], float]
    resident_bytes: int
    anonymous_bytes: int

    def claim(self, name: str) -> float:
        return sum(value for (own, _), value in self.claims.items() if own == name)

    @property
    def started_at(self) -> float:
        """When the service's own clock began."""
        began: float = self.at - self.ledger["elapsed_seconds"] / self.ledger["speed"]
        return began


@dataclass(frozen=True)
class Story:
    """What happened, and whom to ask about it.

    ``fast_untraced`` is what ``fast`` had leaked for sure before its tracer was in, and at most when it was.
    """

    normal: Reading
    leaking: Reading
    degraded: Reading
    settled: Reading
    fast_untraced: tuple[int, int]
    servers: dict[Place, Prometheus]

    def screen(self, dashboard: str, place: Place, pod: str = "") -> Screen:
        """A dashboard as it looks in a place, for one of the cluster's pods."""
        texts = dashboards(truth=True, datasource_uid=DATASOURCE_UID, speed=SPEED, memory_limit_bytes=LIMIT_BYTES)
        server = self.servers[place]
        instance = next(
            (sample.labels["instance"] for sample in server.instant(f'up{{job="leaker",pod="{pod}"}}')), ".+"
        )
        choices = {"job": ".+", "instance": instance, "pod": pod or ".*", "speed": f"{SPEED}"}
        return Screen(texts[dashboard], server, View(choices))


def read(service: Service) -> Reading:
    """How it is now."""
    pod = Pod("", service.process.pid, service.http, "", 0)
    ledger = service.ledger()
    return Reading(time.time(), ledger, service.samples(), service.resident_bytes(), pod.status_bytes("RssAnon"))


def when(service: Service, story_seconds: float, servers: Iterable[Prometheus]) -> Reading:
    """Wait for a moment of the service's own story at which every target answered: who does not has no figures then."""
    while (left := story_seconds - service.ledger()["elapsed_seconds"]) > 0:
        time.sleep(left / service.ledger()["speed"])

    def seen() -> Reading | None:
        reading = read(service)
        ups = [[sample.value for sample in server.instant("min(up)", reading.at)] for server in servers]
        return reading if all(up == [1] for up in ups) else None

    reading = wait_until(seen, "every target answers")
    assert reading
    return reading


@contextlib.contextmanager
def traced(service: Service, log: Path) -> Iterator[str]:
    """`memleak-lab trace --listen` on a service: the address of its metrics, once it answers."""
    command = Path(sys.executable).with_name("memleak-lab")
    address = f"127.0.0.1:{free_port()}"
    with log.open("w") as output:
        tracer = subprocess.Popen(
            [command, "trace", "--pid", str(service.process.pid), "--listen", address], stdout=output, stderr=output
        )
        try:
            wait_until(lambda: _answers(tracer, address, log), "the tracer serves its metrics")
            yield address
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(20)


def _answers(tracer: subprocess.Popen[bytes], address: str, log: Path) -> bool:
    assert tracer.poll() is None, f"the tracer ended: {log.read_text()}"
    try:
        return fetch(address, "/metrics").status_code == 200
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def played(folder: Path) -> Iterator[Story]:
    """Tell the story, and leave the Prometheus servers running for questions."""
    with contextlib.ExitStack() as kept, contextlib.ExitStack() as running:
        calm = running.enter_context(running_service(LAB_SPEED="1"))
        fetch(calm.http, "/ready")  # as a kubelet does within the first second
        calm_tracer = running.enter_context(traced(calm, folder / "calm.log"))
        fast = running.enter_context(running_service(LAB_SPEED=str(SPEED), LAB_CAP_BYTES=str(CAP_BYTES)))
        fetch(fast.http, "/ready")
        before: int = fast.ledger()["bytes_live"]
        fast_tracer = running.enter_context(traced(fast, folder / "fast.log"))
        after: int = fast.ledger()["bytes_live"]
        for service in (calm, fast):
            running.enter_context(
                running_visitors(
                    LAB_TARGET_URL=f"http://{service.http}", LAB_VISITORS_PER_SECOND=str(VISITORS_PER_SECOND)
                )
            )
        pods = [
            Pod("leaker-calm", calm.process.pid, calm.http, calm_tracer, LIMIT_BYTES),
            Pod("leaker-fast", fast.process.pid, fast.http, fast_tracer, LIMIT_BYTES),
        ]
        node = running.enter_context(running_node(pods))
        watched = rules(truth=True, speed=SPEED, memory_limit_bytes=LIMIT_BYTES)
        jobs = {
            Place.DOCKER: [_job("leaker", fast.metrics), _job("tracer", fast_tracer)],
            Place.CLUSTER: _cluster_jobs(node.address, {"leaker-calm": calm.metrics, "leaker-fast": fast.metrics}),
        }
        servers = {
            place: kept.enter_context(running_prometheus(folder / place, jobs[place], watched)) for place in Place
        }
        normal = when(calm, NORMAL_AT, servers.values())
        leaking = when(fast, LEAKING_AT, servers.values())
        degraded = when(fast, DEGRADED_AT, servers.values())
        settled = when(fast, SETTLED_AT, servers.values())
        for server in servers.values():
            server.await_targets()
        running.close()
        yield Story(normal, leaking, degraded, settled, (before, after), servers)


def _job(name: str, address: str, path: str = "/metrics", **labels: str) -> dict[str, object]:
    return {
        "job_name": name,
        "metrics_path": path,
        "static_configs": [{"targets": [address], "labels": labels}],
    }


def _cluster_jobs(node: str, leakers: dict[str, str]) -> list[dict[str, object]]:
    """The program's own jobs, with what they keep and how they name it, on targets that need no cluster to be found."""
    jobs: list[dict[str, object]] = []
    for job in kubernetes_jobs(NAMESPACE, "gadget"):
        document = job.document()
        match job.name:
            case "leaker":
                targets = [
                    {"targets": [address], "labels": {"namespace": NAMESPACE, "pod": pod, "node": "node"}}
                    for pod, address in leakers.items()
                ]
                jobs.append({"job_name": job.name, "static_configs": targets})
            case "gadget":
                jobs.append(_job(job.name, node, "/gadget"))
            case _:
                path = str(document["metrics_path"])
                kept = document["metric_relabel_configs"]
                jobs.append(_job(job.name, node, path) | {"metric_relabel_configs": kept})
    return jobs


def why_not() -> str:
    """Why the story cannot be run here: "" where it can."""
    if not shutil.which("prometheus"):
        return "needs prometheus (3.x) on the PATH"
    return "" if Path(sys.executable).with_name("memleak-lab").exists() else "needs memleak-lab: pip install -e ."
