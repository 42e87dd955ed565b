"""What the scenarios hold a running lab to. Each check raises AssertionError; test_planted shows that each can."""

from __future__ import annotations

import contextlib
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.service_env import HTTP_PORT
from tests.support.prometheus import Prometheus
from tests.system.kubernetes.harness import kubectl, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.system.kubernetes.harness import Lab

MIB = 2**20
JOBS = ("leaker", "cadvisor", "probes")
WORKING_SET_ERROR = 0.05
# Asks on the connection that it has, and on a new one, in turn, until standard input ends; retries once and at once.
# One line for each request that failed twice, and at the end how many there were, and how many were retried.
VISIT = f"""
import select, sys, time, httpx
options = dict(base_url="http://leaker:{HTTP_PORT}", timeout=5, trust_env=False, verify=False)

def ask(path):
    with httpx.Client(**options) as fresh:
        fresh.get(path).raise_for_status()

# A pod can be ready for a second before its node's kube-proxy knows.
for attempt in range(50):
    try:
        ask("/ready")
        break
    except httpx.HTTPError:
        time.sleep(0.2)
kept = httpx.Client(**options)
asked = retried = 0
print("visiting", flush=True)
while not select.select([sys.stdin], [], [], 0.02)[0]:
    asked += 1
    path = f"/api/items/{{asked % 1000}}"
    for attempt in (1, 2):
        try:
            if asked % 2:
                kept.get(path).raise_for_status()
            else:
                ask(path)
            break
        except httpx.HTTPError as error:
            if attempt == 2:
                print(f"request {{asked}} failed twice: {{error!r}}", flush=True)
            retried += attempt == 1
print(asked, retried)
"""


@dataclass(frozen=True)
class WorkingSet:
    """The kubelet's reading of the leaker's container: when it was taken, seconds since 1970, and bytes."""

    at: float
    bytes: int


def working_set(pod: dict[str, Any]) -> WorkingSet | None:
    """The kubelet's latest reading of a leaker's pod: it takes one every 10 to 15 s."""
    summary = json.loads(kubectl("get", "--raw", f"/api/v1/nodes/{pod['spec']['nodeName']}/proxy/stats/summary").stdout)
    for one in summary["pods"]:
        for container in one.get("containers", []):
            if one["podRef"]["name"] == pod["metadata"]["name"] and "workingSetBytes" in container.get("memory", {}):
                return WorkingSet(parse_time(container["memory"]["time"]), container["memory"]["workingSetBytes"])
    return None


def grows_as_scheduled(readings: Sequence[WorkingSet], started: float, speed: float) -> None:
    """1 MiB every 8 s of the story, between the first and the last reading of the leak."""
    # Two seconds for the start of the process, and the first phase.
    leaking = [one for one in readings if one.at > started + 2 + 30 / speed]
    assert len(leaking) > 1, readings
    first, last = leaking[0], leaking[-1]
    scheduled = speed * MIB / 8 * (last.at - first.at)
    assert last.bytes - first.bytes == pytest.approx(scheduled, rel=WORKING_SET_ERROR)


def answers_by_name(lab: Lab) -> None:
    """The service says that it is healthy, asked by its Service's name from another pod."""
    assert json.loads(lab.fetch_inside(f"http://leaker:{HTTP_PORT}/health"))["status"] == "healthy"


def is_ready(lab: Lab, seconds: int) -> None:
    """The leaker's Deployment rolls out within this time."""
    lab.kubectl("rollout", "status", "deployment/leaker", f"--timeout={seconds}s")


def never_restarted(pod: dict[str, Any]) -> None:
    """No container of it began anew. Before the kubelet has looked at a pod, nothing did."""
    for status in pod["status"].get("containerStatuses", []):
        assert status["restartCount"] == 0, status.get("lastState")


def probes_of(pod: dict[str, Any]) -> dict[tuple[str, str], float]:
    """How many probes of a pod had which result, by the kubelet's own count."""
    metrics = kubectl("get", "--raw", f"/api/v1/nodes/{pod['spec']['nodeName']}/proxy/metrics/probes").stdout
    return {
        (sample.labels["probe_type"], sample.labels["result"]): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == "prober_probe_total" and sample.labels["pod_uid"] == pod["metadata"]["uid"]
    }


def no_probe_failed(pod: dict[str, Any]) -> None:
    """Until the server listens, start-up probes fail: that is what they are for. The others never do."""
    assert {probe for probe, result in probes_of(pod) if result != "successful"} <= {"Startup"}


@contextlib.contextmanager
def asking(lab: Lab) -> Iterator[Prometheus]:
    """The lab's own Prometheus."""
    with lab.forwarded("prometheus") as url, contextlib.closing(Prometheus(url.removeprefix("http://"))) as server:
        yield server


def every_target_is_up(lab: Lab) -> None:
    """By Prometheus' last scrape of each."""
    with asking(lab) as server:
        assert {sample.labels["job"]: sample.value for sample in server.instant("up")} == dict.fromkeys(JOBS, 1.0)


def refuses_privileges(namespace: str) -> None:
    """The API server turns a privileged pod away."""
    spec = {"containers": [{"name": "root", "image": "example.com/root:1", "securityContext": {"privileged": True}}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": namespace}, "spec": spec}
    tried = kubectl("create", "--dry-run=server", "--filename=-", stdin=json.dumps(pod), check=False)
    assert tried.returncode != 0
    assert 'violates PodSecurity "restricted' in tried.stderr


@contextlib.contextmanager
def every_request_succeeds(lab: Lab) -> Iterator[None]:
    """A visitor in another pod asks all the while, and retries once."""
    command = ["kubectl", "--namespace", lab.namespace, "exec", "--stdin", "deployment/visitors", "--"]
    with subprocess.Popen(
        [*command, "python", "-uc", VISIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as visitor:
        assert visitor.stdout
        assert visitor.stdout.readline() == "visiting\n"
        try:
            yield
        finally:
            said, _ = visitor.communicate("over\n", timeout=20)
    *failed, summary = said.splitlines()
    assert failed == [], f"{failed}: {summary}"
    assert int(summary.split()[0]) > 100
