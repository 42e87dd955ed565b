"""Ten pods behind one Service, of which one leaks: who looks at the truth is led to the right one."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.targets import process_of_pod
from tests.support.screen import Screen, View
from tests.support.waiting import wait_until
from tests.system.kubernetes.checks import asking
from tests.system.kubernetes.harness import deployed
from tests.system.tracing import memleak_lab, trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.kubernetes.conftest import Declare
    from tests.system.kubernetes.harness import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.docker, pytest.mark.timeout(300)]

NAMESPACE = "memleak-lab-many"
REPLICAS = 10
MIB = 2**20


@pytest.fixture(scope="module")
def lab(declare: Declare) -> Iterator[Lab]:
    with deployed(declare(NAMESPACE, replicas=REPLICAS, capMiB=4000, truth=True)) as lab:
        yield lab


@pytest.fixture(scope="module")
def leaking(lab: Lab) -> str:
    """The name of the pod that leaks, by its Deployment's selector."""
    (pod,) = lab.items("pods", "--selector", "app.kubernetes.io/instance=leaker")
    name: str = pod["metadata"]["name"]
    return name


def test_every_pod_serves_and_says_that_it_is_healthy(lab: Lab) -> None:
    pods = lab.pods("leaker")
    assert len(pods) == REPLICAS

    def ready() -> bool:
        """The Service learns of a pod a moment after the pod is ready."""
        (slices,) = lab.items("endpointslices", "--selector", "kubernetes.io/service-name=leaker")
        return len([one for one in slices["endpoints"] if one["conditions"]["ready"]]) == REPLICAS

    wait_until(ready, "the Service has every pod")
    for pod in pods:
        health = json.loads(lab.fetch_inside(f"http://{pod['status']['podIP']}:8080/health"))
        assert health["status"] == "healthy"


def test_the_truth_dashboard_points_to_the_pod(lab: Lab, leaking: str) -> None:
    text = lab.recording.the("ConfigMap", "dashboards").inputs["data"]["kernel-truth.json"]
    with asking(lab) as server:
        screen = Screen(text, server, View({"job": ".+", "instance": ".+", "pod": ".*", "speed": "60"}))
        (resident,) = [
            target.expr
            for target in screen.targets()
            if target.panel == "Claimed, resident, working set" and "resident" in target.legend
        ]

        def bytes_by_pod() -> dict[str, float]:
            """Once the kubelet has looked at all, and the leak has gone on for a while."""
            found = {sample.labels["pod"]: sample.value for sample in server.instant(resident)}
            return found if len(found) == REPLICAS and max(found.values()) > 200 * MIB else {}

        by_pod = wait_until(bytes_by_pod, "every pod has a figure, and one is large")
    others = [size for pod, size in by_pod.items() if pod != leaking]
    assert by_pod[leaking] > 2 * max(others), by_pod


@pytest.mark.ebpf
def test_watching_the_node_points_to_the_pods_process(lab: Lab, leaking: str) -> None:
    names = [pod["metadata"]["name"] for pod in lab.pods("leaker")]
    pods = {process_of_pod(f"{NAMESPACE}/{name}").pid: name for name in names}
    done = memleak_lab("watch", "--duration", "5s", "--top", "100")
    assert done.returncode == 0, done.stderr
    # Those that grew most come first.
    growing = [int(pid) for pid in re.findall(r"^pid (\d+) grew", done.stdout, re.MULTILINE)]
    assert next(pods[pid] for pid in growing if pid in pods) == leaking, done.stdout


@pytest.mark.ebpf
def test_a_trace_of_each_kind_of_pod_tells_them_apart(lab: Lab, leaking: str) -> None:
    assert trace("--pod", f"{NAMESPACE}/{leaking}")["verdict"]["function"] == "catalog_cache_insert"
    peers = lab.items("pods", "--selector", "app.kubernetes.io/instance=leaker-peers")
    assert trace("--pod", f"{NAMESPACE}/{peers[0]['metadata']['name']}")["verdict"]["leak"] is False
