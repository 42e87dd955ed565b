"""The recorded objects on a real API server: taken without a warning, fenced as labelled, healthy, and gone again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infra.story import LEDGER_PORT
from tests.infra.recording import record
from tests.system.conftest import REGISTRY
from tests.system.docker_cli import answer, docker, inspect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.infra.recording import Recording

pytestmark = [pytest.mark.cluster, pytest.mark.docker]

NAMESPACE = "memleak-lab-test"
READY_SECONDS = 120
PART_OF = "app.kubernetes.io/part-of=memleak-lab"
# Namespaces first and cluster roles next; the API server takes the rest in any order.
APPLY_FIRST = ("Namespace", "ClusterRole")


def kubectl(*arguments: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl against the cluster of KUBECONFIG and fail with what it said."""
    command = ["kubectl", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, input=stdin)
    assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done


@dataclass(frozen=True)
class Lab:
    """What the program declares for this cluster, as text for kubectl, without the Helm release."""

    recording: Recording
    first: str
    rest: str

    @property
    def everything(self) -> str:
        return self.first + self.rest


def _documents(recording: Recording, *, first: bool) -> str:
    chosen = [one for one in recording.objects if (one.kind in APPLY_FIRST) is first]
    return "".join(f"---\n{json.dumps(one.inputs)}\n" for one in chosen)


@pytest.fixture(scope="module")
def lab(image: str, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    pushed = f"{REGISTRY}/{image}"
    docker("tag", image, pushed)
    docker("push", "--quiet", pushed)
    digests = inspect(pushed, "image")["RepoDigests"]
    (digest,) = {one.partition("@")[2] for one in digests if one.startswith(f"{REGISTRY}/")}
    directory = tmp_path_factory.mktemp("program")
    # The daemon's namespace belongs to whoever has Inspektor Gadget there already.
    occupied = not kubectl("get", "namespace", "gadget", check=False).returncode
    settings = {
        "environment": "generic",
        "localRegistry": REGISTRY,
        "baseImage": base_image,
        "namespace": NAMESPACE,
        "speed": 60,
        "capMiB": 200,
        "gadget": "none" if occupied else "trace_malloc",
    }
    kubeconfig = Path(os.environ["KUBECONFIG"])
    recording = record(settings, kubeconfig=kubeconfig, directory=directory, digest=digest)
    return Lab(recording, _documents(recording, first=True), _documents(recording, first=False))


@pytest.fixture(scope="module")
def applied(lab: Lab) -> Iterator[Lab]:
    """The lab in the cluster. Each step is a test of its own: no warning, no unknown field."""
    strictly = ("apply", "--server-side", "--validate=strict", "--warnings-as-errors", "--filename=-")
    kubectl("delete", "--ignore-not-found", "--filename=-", stdin=lab.first)
    try:
        kubectl(*strictly, stdin=lab.first)
        dry = kubectl(*strictly, "--dry-run=server", stdin=lab.rest)
        assert "Warning" not in dry.stderr
        done = kubectl(*strictly, stdin=lab.rest)
        assert "Warning" not in done.stderr
        yield lab
    finally:
        kubectl("delete", "--ignore-not-found", "--filename=-", stdin=lab.first)


@pytest.fixture(scope="module")
def running(applied: Lab) -> Lab:
    for name in ("leaker", "visitors", "prometheus"):
        kubectl("--namespace", NAMESPACE, "rollout", "status", f"deployment/{name}", f"--timeout={READY_SECONDS}s")
    return applied


def test_the_api_server_takes_everything_and_admits_every_pod(applied: Lab) -> None:
    deployments = applied.recording.of_kind("Deployment")
    deadline = time.monotonic() + READY_SECONDS
    while len(pods := _items("pods")) < len(deployments):
        refused = [one for one in _items("events") if one["reason"] == "FailedCreate"]
        assert not refused, refused
        assert time.monotonic() < deadline, f"{len(pods)} pods of {len(deployments)}"
        time.sleep(0.5)


def test_the_server_stores_what_was_declared(applied: Lab) -> None:
    """What a second `pulumi up` would find: nothing to change."""
    different = kubectl("diff", "--server-side", "--filename=-", stdin=applied.everything, check=False)
    assert different.returncode == 0, different.stdout + different.stderr


@pytest.mark.parametrize("namespace", [NAMESPACE, "gadget"])
def test_pod_security_is_enforced_as_labelled(namespace: str, applied: Lab) -> None:
    if namespace not in {one.object_name for one in applied.recording.of_kind("Namespace")}:
        pytest.skip("the cluster's own Inspektor Gadget has this namespace")
    spec = {"containers": [{"name": "root", "image": "example.com/root:1", "securityContext": {"privileged": True}}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": namespace}, "spec": spec}
    tried = kubectl("create", "--dry-run=server", "--filename=-", stdin=json.dumps(pod), check=False)
    if namespace == NAMESPACE:
        assert tried.returncode != 0
        assert 'violates PodSecurity "restricted' in tried.stderr
    else:
        assert tried.returncode == 0, tried.stderr


def test_the_forwarded_leaker_says_that_it_is_healthy(running: Lab) -> None:
    with _forwarded(running, "leaker") as url:
        assert json.loads(answer(f"{url}/health"))["status"] == "healthy"
    with _forwarded(running, "ledger") as url:
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
    with _forwarded(running, "prometheus") as url:

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
    (pod,) = [one for one in _items("pods") if one["metadata"]["name"].startswith("leaker-")]
    assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == container["resources"]["limits"]["memory"]
    (status,) = pod["status"]["containerStatuses"]
    assert status["restartCount"] == 0


def test_nothing_is_left_when_the_namespaces_and_the_cluster_role_are_gone(running: Lab) -> None:
    kubectl("delete", "--filename=-", stdin=running.first)
    clusterwide = [one for one in running.recording.objects if one.kind == "ClusterRoleBinding"]
    for one in clusterwide:
        kubectl("delete", one.kind, one.object_name)
    left = kubectl("get", "namespaces,clusterroles,clusterrolebindings", "--selector", PART_OF, "--output=name").stdout
    assert left == ""


def _items(kind: str) -> list[dict[str, Any]]:
    found = kubectl("--namespace", NAMESPACE, "get", kind, "--output=json").stdout
    return list(json.loads(found)["items"])


@contextlib.contextmanager
def _forwarded(lab: Lab, name: str) -> Iterator[str]:
    """A base URL, by the program's own port-forward command, but to a port that is free."""
    command = re.sub(r" \d+:(\d+)$", r" :\1", lab.recording.outputs["port_forward_commands"][name])
    with subprocess.Popen(["sh", "-c", f"exec {command}"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            found = re.match(r"Forwarding from (127\.0\.0\.1:\d+)", line)
            assert found, f"{command}: {line}"
            yield f"http://{found.group(1)}"
        finally:
            process.terminate()
