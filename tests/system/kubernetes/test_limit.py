"""A memory limit that the leak does not fit into: refused as a configuration, and visible where it is forced."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from infra.settings import ConfigError
from tests.support.screen import Screen, View
from tests.support.waiting import wait_until
from tests.system.kubernetes.checks import asking
from tests.system.kubernetes.harness import READY_SECONDS, deployed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.kubernetes.conftest import Declare
    from tests.system.kubernetes.harness import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.docker, pytest.mark.timeout(600)]

NAMESPACE = "memleak-lab-limit"
MIB = 2**20
FORCED_MIB = 160
# The kubelet looks every 10 to 15 s, in which the leak takes 56 MiB at this speed: its last look sees half the limit.
SPEED = 30


@pytest.fixture(scope="module")
def lab(declare: Declare) -> Iterator[Lab]:
    with deployed(declare(NAMESPACE, speed=SPEED, capMiB=400, truth=True)) as lab:
        yield lab


def test_the_configuration_says_so_before_anything_is_declared(declare: Declare) -> None:
    with pytest.raises(ConfigError, match=r"memoryLimitMiB is 300(.*\n)*.*pulumi config set memoryLimitMiB 912"):
        declare(NAMESPACE, capMiB=400, memoryLimitMiB=300)


def test_a_forced_limit_ends_in_a_kill_that_the_dashboards_show(lab: Lab) -> None:
    memory = f"memory={FORCED_MIB}Mi"
    lab.kubectl("set", "resources", "deployment/leaker", f"--requests={memory}", f"--limits={memory}")
    killed = wait_until(
        lambda: [pod for pod in lab.pods("leaker") if _killed(pod)], "the kernel killed it", READY_SECONDS
    )
    (name,) = [pod["metadata"]["name"] for pod in killed]
    texts = lab.recording.the("ConfigMap", "dashboards").inputs["data"]
    view = View({"job": ".+", "instance": ".+", "pod": name, "speed": f"{SPEED}"})
    with asking(lab) as server:
        health, truth = (Screen(texts[file], server, view) for file in ("service-health.json", "kernel-truth.json"))
        working_set = _expr(truth, "Claimed, resident, working set", "working set")

        def fallen() -> bool:
            """It stood high, and begins anew."""
            now = time.time()
            (series,) = server.over(working_set, now - 300, now)
            values = series[1]
            return max(values) > FORCED_MIB * MIB / 2 and values[-1] < max(values) / 2

        wait_until(fallen, "the working set has fallen", READY_SECONDS)
        (restarts,) = wait_until(
            lambda: [one.value for one in server.instant(_expr(health, "Restarts")) if one.value],
            "a restart is counted",
        )
        assert restarts >= 1


def _expr(screen: Screen, panel: str, legend: str = "") -> str:
    (target,) = [one for one in screen.targets() if one.panel == panel and legend in one.legend]
    return target.expr


def _killed(pod: dict[str, Any]) -> bool:
    (status,) = pod["status"].get("containerStatuses") or [{}]
    return bool(status.get("lastState", {}).get("terminated", {}).get("reason") == "OOMKilled")
