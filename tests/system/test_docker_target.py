"""The lab without a cluster: the containers that the program declares, run by the real Docker, as one lab."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from diagnosis.learn.tasks import FINDING
from infra import versions
from infra.commands import docker_learn
from tests.support.docker_cli import answer, command_of, docker, inspect, options_of, published
from tests.support.recording import record
from tests.support.waiting import wait_until
from tests.system.tracing import COMMAND, memleak_lab, solving

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

NAME = "memleak-lab-docker"
LABEL = "app.kubernetes.io/part-of=memleak-lab"
MIB = 2**20


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory, base_image: str) -> dict[str, dict[str, Any]]:
    directory = tmp_path_factory.mktemp("program")
    # Without a way out the daemon was given its images by their tags.
    settings = {
        "digests": False,
        "target": "docker",
        "speed": 30,
        "baseImage": base_image,
        "namespace": NAME,
        "grafana": False,
    }
    recording = record(settings, kubeconfig=directory / "none", directory=directory)
    (network,) = recording.of_type("docker:index/network:Network")
    assert network.inputs["name"] == NAME
    return {one.name: one.inputs for one in recording.of_type("docker:index/container:Container")}


def remove() -> None:
    """Everything of this lab: by the label, as a person would."""
    named = f"name=^/?{NAME}"
    found = docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}", "--filter", named).stdout.split()
    if found:
        docker("rm", "--force", "--volumes", *found)
    docker("network", "rm", NAME, check=False)


def has_its_check(name: str) -> bool:
    """Whether the container has what its health check needs: a stand-in for a public image may not.

    That is the program, and a shell: Docker's command line has the check run by one, which the provider does not.
    """
    program = shlex.split(inspect(name)["Config"]["Healthcheck"]["Test"][1])[0]
    needed = [path for path in (program, "/bin/sh") if path.startswith("/")]
    copies = [["docker", "cp", f"{name}:{path}", "-"] for path in needed]
    return not any(subprocess.run(copy, capture_output=True, check=False).returncode for copy in copies)


def healthy(name: str) -> None:
    """Wait for Docker's own verdict."""
    wait_until(lambda: bool(inspect(name)["State"]["Health"]["Status"] == "healthy"), f"{name} is healthy")


@pytest.fixture(scope="module")
def lab(containers: dict[str, dict[str, Any]], image: str) -> Iterator[dict[str, str]]:
    """Container names by part: all of them run, and each that has a health check is healthy."""
    pin = versions.PROMETHEUS_IMAGE.removeprefix("docker.io/")
    if docker("image", "inspect", pin, check=False).returncode and docker("pull", pin, check=False).returncode:
        pytest.skip(f"{pin} is neither in the daemon nor can it be pulled")
    remove()
    try:
        docker("network", "create", "--label", LABEL, NAME)
        for part, declared in containers.items():
            name = declared["name"]
            what = pin if part == "prometheus" else image
            docker("run", "--detach", *options_of(declared, NAME, name), what, *command_of(declared))
            if declared.get("wait") and has_its_check(name):
                healthy(name)
        yield {part: declared["name"] for part, declared in containers.items()}
    finally:
        remove()


def test_every_part_runs_with_its_restart_policy_and_ports_on_loopback_only(lab: dict[str, str]) -> None:
    assert set(lab) == {"leaker", "visitors", "prometheus"}
    for name in lab.values():
        found = inspect(name)
        assert found["State"]["Running"]
        assert found["RestartCount"] == 0
        assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
        hosts = [host for bound in found["NetworkSettings"]["Ports"].values() for host in bound or []]
        assert {host["HostIp"] for host in hosts} <= {"127.0.0.1"}


def test_prometheus_sees_the_leaker_and_its_visitors(lab: dict[str, str]) -> None:
    url = published(lab["prometheus"], 9090)
    query = f"{url}/api/v1/query?query=http_requests_total%7Bpath%3D%22%2Fapi%2Fitems%2F%7Bid%7D%22%7D"
    answer(query, until=lambda text: bool(json.loads(text)["data"]["result"]))
    answer(f"{url}/api/v1/targets", until=lambda text: '"health":"up"' in text and '"health":"down"' not in text)


@pytest.mark.ebpf
def test_the_trace_of_the_container_is_the_ledgers_to_the_byte(lab: dict[str, str]) -> None:
    pid = str(inspect(lab["leaker"])["State"]["Pid"])
    # The ledger listens on the container's own loopback: the command runs there, as verify_command does.
    inside = ["nsenter", "--target", pid, "--net", COMMAND, "trace", "--container", lab["leaker"]]
    options = ["--duration", "8s", "--format", "json", "--ledger", "http://127.0.0.1:9091/ledger"]
    done = subprocess.run([*inside, *options], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    found = [stack for stack in report["stacks"] if stack["frames"][0]["function"] == "catalog_cache_insert"]
    assert report["verdict"]["function"] == "catalog_cache_insert"
    assert report["ledger"]["bytes"] > 16 * MIB
    assert sum(stack["outstanding_bytes"] for stack in found) == report["ledger"]["bytes"]


@pytest.mark.ebpf
def test_a_learner_finds_the_leak_in_the_container(lab: dict[str, str]) -> None:
    done = subprocess.run(
        ["sh", "-c", solving(docker_learn(lab["leaker"]))], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SOLVED: {len(FINDING)} tasks" in done.stdout


@pytest.mark.root
def test_a_killed_leaker_comes_back_healthy_and_its_visitors_with_it(lab: dict[str, str]) -> None:
    os.kill(inspect(lab["leaker"])["State"]["Pid"], signal.SIGKILL)
    wait_until(lambda: inspect(lab["leaker"])["RestartCount"] == 1, "Docker restarts it")
    healthy(lab["leaker"])
    metrics = f"{published(lab['leaker'], 9090)}/metrics"
    answer(metrics, until=lambda text: 'path="/api/items/{id}",status="200"' in text)


def test_nothing_is_left_after_the_teardown(lab: dict[str, str]) -> None:
    def left() -> list[str]:
        said = memleak_lab("doctor", "--gone", "--namespace", NAME, "--image", NAME).stdout
        return [line for line in said.splitlines() if line.startswith("LEFT") and NAME in line]

    before = "\n".join(left())
    for thing in (*(f"container {name}" for name in lab.values()), f"network {NAME}"):
        assert thing in before
    remove()
    assert left() == []
