"""The recorded objects on a real API server: taken without a warning, fenced as labelled, healthy, and gone again."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra.service_env import LEDGER_PORT
from tests.support.docker_cli import answer
from tests.system.kubernetes.checks import refuses_privileges
from tests.system.kubernetes.harness import READY_SECONDS, STRICTLY, kubectl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.kubernetes.conftest import Declare
    from tests.system.kubernetes.harness import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.docker]

NAMESPACE = "memleak-lab-test"
PART_OF = "app.kubernetes.io/part-of=memleak-lab"


@pytest.fixture(scope="module")
def lab(declare: Declare) -> Lab:
    # The daemon's namespace belongs to whoever has Inspektor Gadget there already.
    occupied = not kubectl("get", "namespace", "gadget", check=False).returncode
    return declare(NAMESPACE, capMiB=200, grafana=True, gadget="none" if occupied else "trace_malloc")


@pytest.fixture(scope="module")
def applied(lab: Lab) -> Iterator[Lab]:
    """The lab in the cluster. Each step is a test of its own: no warning, no unknown field."""
    lab.delete()
    try:
        kubectl(*STRICTLY, stdin=lab.first)
        dry = kubectl(*STRICTLY, "--dry-run=server", stdin=lab.rest)
        assert "Warning" not in dry.stderr
        done = kubectl(*STRICTLY, stdin=lab.rest)
        assert "Warning" not in done.stderr
        yield lab
    finally:
        lab.delete()


@pytest.fixture(scope="module")
def running(applied: Lab) -> Lab:
    """All but Grafana, whose image is not to be had everywhere."""
    for name in ("leaker", "visitors", "prometheus"):
        applied.kubectl("rollout", "status", f"deployment/{name}", f"--timeout={READY_SECONDS}s")
    return applied


def test_the_api_server_takes_everything_and_admits_every_pod(applied: Lab) -> None:
    deployments = applied.recording.of_kind("Deployment")
    deadline = time.monotonic() + READY_SECONDS
    while len(pods := applied.items("pods")) < len(deployments):
        refused = [one for one in applied.items("events") if one["reason"] == "FailedCreate"]
        assert not refused, refused
        assert time.monotonic() < deadline, f"{len(pods)} pods of {len(deployments)}"
        time.sleep(0.5)


def test_the_server_stores_what_was_declared(applied: Lab) -> None:
    """What a second `pulumi up` would find: nothing to change."""
    different = kubectl("diff", "--server-side", "--filename=-", stdin=applied.first + applied.rest, check=False)
    assert different.returncode == 0, different.stdout + different.stderr


@pytest.mark.parametrize("namespace", [NAMESPACE, "gadget"])
def test_pod_security_is_enforced_as_labelled(namespace: str, applied: Lab) -> None:
    if namespace not in {one.object_name for one in applied.recording.of_kind("Namespace")}:
        pytest.skip("the cluster's own Inspektor Gadget has this namespace")
    if namespace == NAMESPACE:
        refuses_privileges(namespace)
    else:
        with pytest.raises(AssertionError):
            refuses_privileges(namespace)


def test_the_forwarded_leaker_says_that_it_is_healthy(running: Lab) -> None:
    with running.forwarded("leaker") as url:
        assert json.loads(answer(f"{url}/health"))["status"] == "healthy"
    with running.forwarded("ledger") as url:
        ledger = answer(f"{url}/ledger", until=lambda text: json.loads(text)["bytes_live"] > 0)
    assert json.loads(ledger)["cap_bytes"] == 200 * 2**20


def test_the_verify_command_grades_an_answer(running: Lab) -> None:
    with socket.socket() as probe:
        if not probe.connect_ex(("127.0.0.1", LEDGER_PORT)):
            pytest.skip(f"port {LEDGER_PORT}, which the command forwards, is in use on this machine")
    # The lab's command is beside the interpreter that runs the tests.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = running.recording.outputs["verify_command"]
    for answered, verdict in (("catalog_cache_insert", "RIGHT"), ("malloc", "WRONG")):
        environment = {**os.environ, "PATH": path, "ANSWER": answered}
        graded = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=environment)
        assert verdict in graded.stdout, graded.stdout + graded.stderr


def test_the_gadget_command_finds_the_symbols_in_the_pod(running: Lab) -> None:
    copy, run, _ = running.recording.outputs["gadget_command"].partition(" && kubectl gadget run ")
    assert run
    listing = 'find "$cache" -name debuginfo -size +1k; rm -r "$cache"'
    copied = subprocess.run(["sh", "-c", f"{copy} && {listing}"], capture_output=True, text=True, check=True).stdout
    assert re.search(r"/[0-9a-f]{40}/debuginfo\n", copied), copied


def test_prometheus_reaches_every_target(running: Lab) -> None:
    wanted = {"leaker", "cadvisor", "probes"}
    with running.forwarded("prometheus") as url:

        def all_up(text: str) -> bool:
            active = json.loads(text)["data"]["activeTargets"]
            return wanted <= {one["labels"]["job"] for one in active} and {one["health"] for one in active} == {"up"}

        answer(f"{url}/api/v1/targets?state=active", until=all_up)
        # A kubelet takes its first reading of a new pod after some seconds.
        query = f"{url}/api/v1/query?query=container_memory_working_set_bytes"
        answer(query, until=lambda text: '"pod":"leaker-' in text)


def test_prometheus_may_read_metrics_of_nodes_and_no_more(running: Lab) -> None:
    account = f"system:serviceaccount:{NAMESPACE}:prometheus"

    def may(*what: str) -> bool:
        return kubectl("auth", "can-i", *what, "--as", account, check=False).stdout.strip() == "yes"

    assert may("get", "nodes", "--subresource=metrics")
    assert may("list", "pods", "--namespace", NAMESPACE)
    assert not may("get", "nodes", "--subresource=proxy"), "that is every endpoint of the kubelet, exec included"
    assert not may("get", "secrets", "--namespace", NAMESPACE)
    assert not may("list", "pods", "--namespace", "default")
    assert not may("create", "pods", "--namespace", NAMESPACE)
    assert running.recording.of_kind("ClusterRole")


def test_the_limit_is_the_kernels(running: Lab) -> None:
    (container,) = running.recording.the("Deployment", "leaker").inputs["spec"]["template"]["spec"]["containers"]
    (pod,) = [one for one in running.items("pods") if one["metadata"]["name"].startswith("leaker-")]
    assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == container["resources"]["limits"]["memory"]
    (status,) = pod["status"]["containerStatuses"]
    assert status["restartCount"] == 0


def test_nothing_is_left_when_the_namespaces_and_the_cluster_role_are_gone(running: Lab) -> None:
    running.delete()
    left = kubectl("get", "namespaces,clusterroles,clusterrolebindings", "--selector", PART_OF, "--output=name").stdout
    ours = (NAMESPACE, "gadget")
    assert [one for one in left.split() if one.partition("/")[2].startswith(ours)] == []
