"""The whole story in a real cluster, an hour in a minute: every claim is "healthy" while the kubelet's figures grow."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.docker_cli import answer
from tests.support.screen import Screen, View
from tests.support.waiting import wait_until
from tests.system.kubernetes.checks import (
    asking,
    every_target_is_up,
    grows_as_scheduled,
    never_restarted,
    no_probe_failed,
    probes_of,
    working_set,
)
from tests.system.kubernetes.harness import deployed, parse_time
from tests.system.tracing import trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.kubernetes.checks import WorkingSet
    from tests.system.kubernetes.conftest import Declare
    from tests.system.kubernetes.harness import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.docker, pytest.mark.timeout(600)]

NAMESPACE = "memleak-lab-story"
MIB = 2**20
SPEED = 60
HOUR_SECONDS = 3600
# Series about functions come from a gadget, or from `memleak-lab trace --listen`: nobody traces here.
OF_A_TRACER = (
    "function:memleak_",
    "pod:memleak_outstanding_",
    "pod:memleak_growth_explained:",
    "pod:memleak_lost_events:",
    'otel_scope_name="trace_malloc"',
)
# What a visitor of another pod sees: asks by the Service's name until standard input ends, a line for each answer.
VISIT = """
import json, select, sys, urllib.request as u
while not select.select([sys.stdin], [], [], 0.5)[0]:
    try:
        with u.urlopen("http://leaker:8080/health", timeout=5) as answer:
            print(answer.status, json.load(answer)["status"])
    except OSError as error:
        print(error)
"""


@dataclass(frozen=True)
class Hour:
    """What was seen from outside during the accelerated hour."""

    lab: Lab
    visits: tuple[str, ...]
    readings: tuple[WorkingSet, ...]
    ledger: dict[str, Any]


@pytest.fixture(scope="module")
def lab(declare: Declare) -> Iterator[Lab]:
    with deployed(declare(NAMESPACE, speed=SPEED, truth=True)) as lab:
        yield lab


@pytest.fixture(scope="module")
def hour(lab: Lab) -> Hour:
    pod = lab.pod("leaker")
    readings: list[WorkingSet] = []
    command = ["kubectl", "--namespace", NAMESPACE, "exec", "--stdin", "deployment/visitors", "--"]
    with subprocess.Popen(
        [*command, "python", "-uc", VISIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as visitor:
        with lab.forwarded("ledger") as url:

            def over() -> bool:
                found = working_set(pod)
                if found and (not readings or found.at > readings[-1].at):
                    readings.append(found)
                return bool(json.loads(answer(f"{url}/ledger"))["elapsed_seconds"] >= HOUR_SECONDS)

            wait_until(over, "an hour of the story", seconds=150)
        seen, _ = visitor.communicate("over\n", timeout=20)
    return Hour(lab, tuple(seen.splitlines()), tuple(readings), lab.ledger())


def test_nobody_sees_anything_but_health_for_an_hour(hour: Hour) -> None:
    assert len(hour.visits) > SPEED / 2
    assert set(hour.visits) == {"200 healthy"}
    assert hour.ledger["phase"] == "diagnosis"


def test_no_probe_fails_and_no_container_restarts(hour: Hour) -> None:
    pod = hour.lab.pod("leaker")
    never_restarted(pod)
    no_probe_failed(pod)
    counted = probes_of(pod)
    # One every 10 s, and one every 5 s.
    assert counted["Liveness", "successful"] >= SPEED / 10 - 1
    assert counted["Readiness", "successful"] >= SPEED / 5 - 1


def test_the_working_set_grows_as_scheduled(hour: Hour) -> None:
    (status,) = hour.lab.pod("leaker")["status"]["containerStatuses"]
    assert hour.readings[-1].at - hour.readings[0].at > SPEED / 2, hour.readings
    grows_as_scheduled(hour.readings, parse_time(status["state"]["running"]["startedAt"]), SPEED)


def test_the_trace_of_the_pod_is_the_ledgers_to_the_byte(hour: Hour) -> None:
    pod = hour.lab.pod("leaker")["metadata"]["name"]
    with hour.lab.forwarded("ledger") as url:
        report = trace("--pod", f"{NAMESPACE}/{pod}", "--ledger", f"{url}/ledger")
    assert report["verdict"]["function"] == "catalog_cache_insert"
    assert report["ledger"]["bytes"] > 16 * MIB
    found = [stack for stack in report["stacks"] if stack["frames"][0]["function"] == "catalog_cache_insert"]
    assert sum(stack["outstanding_bytes"] for stack in found) == report["ledger"]["bytes"]
    assert sum(stack["allocations"] for stack in found) == report["ledger"]["calls"]


def test_prometheus_sees_every_target_up_and_the_dashboards_have_data(hour: Hour) -> None:
    texts = hour.lab.recording.the("ConfigMap", "dashboards").inputs["data"]
    choices = {"job": ".+", "instance": ".+", "pod": ".*", "speed": f"{SPEED}"}
    with asking(hour.lab) as server:
        server.await_targets()
        every_target_is_up(hour.lab)
        rules = [rule for group in server.ask("/rules")["groups"] for rule in group["rules"]]
        assert {rule["name"] for rule in rules if rule["health"] != "ok"} == set()
        screens = [Screen(text, server, View(choices)) for text in texts.values()]
        empty = {
            (target.panel, target.expr)
            for screen in screens
            for target in screen.targets()
            if not server.instant(target.expr)
        }
    assert {(panel, expr) for panel, expr in empty if not any(series in expr for series in OF_A_TRACER)} == set()
