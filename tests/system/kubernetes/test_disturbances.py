"""What happens to the service's pods in a real cluster's life: deleted, drained, updated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import wait_until
from tests.system.kubernetes.checks import every_request_succeeds, never_restarted
from tests.system.kubernetes.harness import READY_SECONDS, deployed, kubectl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.kubernetes.conftest import Declare
    from tests.system.kubernetes.harness import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.docker, pytest.mark.timeout(600)]

NAMESPACE = "memleak-lab-disturbed"
# The first phase lasts ten seconds: a pod that begins anew can be seen in it.
SPEED = 3


@pytest.fixture(scope="module")
def lab(declare: Declare) -> Iterator[Lab]:
    with deployed(declare(NAMESPACE, speed=SPEED, capMiB=200, prometheus=False)) as lab:
        yield lab


def begins_anew(lab: Lab, before: str) -> None:
    """Another pod is there, is ready, and is in the first phase of its own story."""
    named = wait_until(lambda: {pod["metadata"]["name"] for pod in lab.pods("leaker")} - {before}, "another pod")
    (name,) = named
    lab.kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={READY_SECONDS}s")
    ledger = lab.ledger(name)
    pod = lab.pod("leaker")
    assert pod["metadata"]["name"] == name
    assert (ledger["phase"], ledger["bytes_live"]) == ("normal", 0), ledger
    never_restarted(pod)


def leaks(lab: Lab) -> str:
    """Wait until the pod leaks: its name."""
    name: str = lab.pod("leaker")["metadata"]["name"]
    lab.ledger(name, lambda ledger: bool(ledger["bytes_live"]))
    return name


def test_an_update_fails_no_request_that_is_retried_once(lab: Lab, declare: Declare) -> None:
    before = lab.pod("leaker")["metadata"]["name"]
    changed = declare(NAMESPACE, speed=SPEED, capMiB=201, prometheus=False)
    with every_request_succeeds(lab):
        changed.apply()
        changed.wait()
        wait_until(lambda: not _exists(lab, before), f"pod {before} is gone")
    assert changed.ledger()["cap_bytes"] == 201 * 2**20
    lab.apply()
    lab.wait()


def test_a_deleted_pod_comes_back_in_the_first_phase(lab: Lab) -> None:
    name = leaks(lab)
    # Without waiting: the next pod begins while this one still says goodbye.
    lab.kubectl("delete", "pod", name, "--wait=false")
    begins_anew(lab, name)


def test_a_drained_nodes_pods_come_back_in_the_first_phase(lab: Lab) -> None:
    name = leaks(lab)
    node = lab.pod("leaker")["spec"]["nodeName"]
    # Whatever else runs on the node stays there.
    drain = ("--ignore-daemonsets", "--delete-emptydir-data", "--pod-selector=app.kubernetes.io/part-of=memleak-lab")
    try:
        kubectl("drain", node, *drain, f"--timeout={READY_SECONDS}s")
        pods = [*lab.pods("leaker"), *lab.pods("visitors")]
        assert node not in [pod["spec"].get("nodeName") for pod in pods]
    finally:
        kubectl("uncordon", node)
    begins_anew(lab, name)


def _exists(lab: Lab, pod: str) -> bool:
    return lab.kubectl("get", "pod", pod, check=False).returncode == 0
