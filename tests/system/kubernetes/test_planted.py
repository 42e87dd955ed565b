"""Each check of the scenarios fails when its cause is planted in a running lab, and holds again without it."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import wait_until
from tests.system.kubernetes.checks import (
    WorkingSet,
    answers_by_name,
    every_request_succeeds,
    every_target_is_up,
    grows_as_scheduled,
    is_ready,
    never_restarted,
    no_probe_failed,
    refuses_privileges,
)
from tests.system.kubernetes.harness import STRICTLY, deployed, kubectl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.kubernetes.conftest import Declare
    from tests.system.kubernetes.harness import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.docker, pytest.mark.timeout(300)]

NAMESPACE = "memleak-lab-planted"
SPEED = 60
MIB = 2**20


@pytest.fixture(scope="module")
def lab(declare: Declare) -> Iterator[Lab]:
    with deployed(declare(NAMESPACE, speed=SPEED, capMiB=200)) as lab:
        yield lab


def plant(lab: Lab, kind: str, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Apply one of the lab's objects with a change."""
    planted = copy.deepcopy(lab.recording.the(kind, name).inputs)
    change(planted)
    assert planted != lab.recording.the(kind, name).inputs
    kubectl(*STRICTLY, stdin=json.dumps(planted))


def repair(lab: Lab) -> None:
    """Apply the lab as it is declared, and wait."""
    lab.apply()
    lab.wait()


def holds(check: Callable[[], object]) -> bool:
    try:
        check()
    except AssertionError:
        return False
    return True


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    container_spec: dict[str, Any] = found
    return container_spec


def newest(lab: Lab) -> dict[str, Any]:
    return max(lab.pods("leaker"), key=lambda pod: pod["metadata"]["creationTimestamp"])


def begin_anew(lab: Lab, part: str) -> None:
    """Delete the pod: a kubelet keeps in mind for five minutes what one pod's token is allowed."""
    lab.kubectl("delete", "pod", "--selector", f"app.kubernetes.io/name={part}")
    lab.wait()


def test_a_broken_service_selector_is_noticed(lab: Lab) -> None:
    answers_by_name(lab)
    plant(lab, "Service", "leaker", lambda one: one["spec"]["selector"].update({"app.kubernetes.io/name": "leaked"}))
    wait_until(lambda: not holds(lambda: answers_by_name(lab)), "nobody answers")
    repair(lab)
    wait_until(lambda: holds(lambda: answers_by_name(lab)), "the service answers again")


def test_a_renamed_readiness_path_is_noticed(lab: Lab) -> None:
    plant(lab, "Deployment", "leaker", lambda one: container(one)["readinessProbe"]["httpGet"].update(path="/readyz"))
    assert not holds(lambda: is_ready(lab, seconds=10))
    repair(lab)
    is_ready(lab, seconds=10)


def test_a_renamed_liveness_path_is_noticed(lab: Lab) -> None:
    plant(lab, "Deployment", "leaker", lambda one: container(one)["livenessProbe"]["httpGet"].update(path="/healthz"))
    wait_until(lambda: not holds(lambda: no_probe_failed(newest(lab))), "a probe fails")
    repair(lab)
    no_probe_failed(newest(lab))


def test_a_role_that_is_given_to_nobody_is_noticed(lab: Lab) -> None:
    wait_until(lambda: holds(lambda: every_target_is_up(lab)), "every target is up")
    binding = f"{NAMESPACE}-prometheus"
    plant(lab, "ClusterRoleBinding", binding, lambda one: one["subjects"][0].update(name="nobody"))
    begin_anew(lab, "prometheus")
    wait_until(lambda: not holds(lambda: every_target_is_up(lab)), "Prometheus finds no kubelet")
    assert not holds(lambda: wait_until(lambda: holds(lambda: every_target_is_up(lab)), "some were late", seconds=10))
    repair(lab)
    begin_anew(lab, "prometheus")
    wait_until(lambda: holds(lambda: every_target_is_up(lab)), "every target is up again")


def test_a_lowered_limit_is_noticed(lab: Lab) -> None:
    def lower(one: dict[str, Any]) -> None:
        resources = container(one)["resources"]
        for amount in (resources["limits"], resources["requests"]):
            amount["memory"] = "96Mi"

    plant(lab, "Deployment", "leaker", lower)
    wait_until(lambda: not holds(lambda: never_restarted(newest(lab))), "the kernel kills it")
    repair(lab)
    never_restarted(newest(lab))


def test_an_update_with_a_gap_is_noticed(lab: Lab) -> None:
    def widen(one: dict[str, Any]) -> None:
        one["spec"]["strategy"] = {"type": "Recreate"}
        del container(one)["lifecycle"]
        # A request to the old pod's address may hang for its five seconds: the gap is as long as two of them, and more.
        container(one)["readinessProbe"]["initialDelaySeconds"] = 15

    def update() -> None:
        with every_request_succeeds(lab):
            plant(lab, "Deployment", "leaker", widen)
            lab.wait()

    answers_by_name(lab)
    assert not holds(update)
    # `kubectl apply` keeps the strategy's rolling part for a Recreate that it finds: a new Deployment has none.
    lab.kubectl("delete", "deployment", "leaker")
    repair(lab)


def test_a_namespace_without_pod_security_is_noticed(lab: Lab) -> None:
    refuses_privileges(NAMESPACE)
    enforced = "pod-security.kubernetes.io/enforce"
    plant(lab, "Namespace", NAMESPACE, lambda one: one["metadata"]["labels"].update({enforced: "privileged"}))
    assert not holds(lambda: refuses_privileges(NAMESPACE))
    repair(lab)
    refuses_privileges(NAMESPACE)


@pytest.mark.parametrize("pace", [0.5, 0.94, 1.06, 2])
def test_a_leak_at_another_pace_is_noticed(pace: float) -> None:
    def readings(pace: float) -> list[WorkingSet]:
        return [WorkingSet(at, int(50 * MIB + pace * SPEED / 8 * MIB * at)) for at in (5.0, 18.0, 31.0, 44.0)]

    grows_as_scheduled(readings(1), 0, SPEED)
    assert not holds(lambda: grows_as_scheduled(readings(pace), 0, SPEED))
