"""After the teardown nothing of the lab is left, in the cluster and on its node; before it, everything is named."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.targets import groups_of_container
from tests.support.docker_cli import docker
from tests.support.waiting import wait_until
from tests.system.kubernetes.harness import deployed, push, recorded, remove_from_node
from tests.system.tracing import COMMAND, memleak_lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.kubernetes.harness import Lab, Pushed

pytestmark = [pytest.mark.cluster, pytest.mark.docker, pytest.mark.ebpf, pytest.mark.timeout(300)]

# An image of its own: others' may stay where they are.
NAME = "memleak-lab-gone"


@pytest.fixture(scope="module")
def pushed(image: str) -> Pushed:
    return push(image, NAME)


@pytest.fixture(scope="module")
def declared(pushed: Pushed, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    directory = tmp_path_factory.mktemp("program")
    return recorded(directory, pushed, base_image, NAME, grafana=False, speed=60, capMiB=200)


@contextlib.contextmanager
def tracing(lab: Lab) -> Iterator[int]:
    """A tracer on the leaker's pod, by its pid, once its probes are attached."""
    pod = f"{NAME}/{lab.pod('leaker')['metadata']['name']}"
    command = [COMMAND, "trace", "--pod", pod, "--duration", "10m"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as tracer:
        try:
            assert tracer.stderr
            assert any(line.startswith("tracing pid") for line in tracer.stderr)
            yield tracer.pid
        finally:
            tracer.send_signal(signal.SIGINT)


def left() -> list[str]:
    """What the command says is left."""
    done = memleak_lab("doctor", "--gone", "--namespace", NAME, "--image", NAME)
    lines = [line.removeprefix("LEFT").strip() for line in done.stdout.splitlines() if line.startswith("LEFT")]
    assert done.returncode == bool(lines), done.stdout + done.stderr
    assert "unseen" not in done.stdout, done.stdout
    return lines


def mine(lines: list[str], pids: set[int]) -> list[str]:
    """Without the processes and probes of whoever else runs the lab on this machine."""
    return [
        line
        for line in lines
        if not line.startswith(("processes", "eBPF")) or {int(pid) for pid in re.findall(r"pid (\d+)", line)} & pids
    ]


def test_what_is_there_is_named_and_then_nothing_is_left(declared: Lab, pushed: Pushed) -> None:
    with deployed(declared) as lab:
        pids = {
            pid
            for part in ("leaker", "visitors")
            for status in lab.pod(part)["status"]["containerStatuses"]
            for pids in groups_of_container(status["containerID"].rpartition("//")[2]).values()
            for pid in pids
        }
        assert len(pids) >= 2
        node = lab.pod("leaker")["spec"]["nodeName"]
        reference = f"{pushed.name.rpartition(':')[0]}@{pushed.digest}"
        # The kubelet tells its images every ten seconds.
        wait_until(lambda: [line for line in left() if reference in line], f"{reference} is on {node}")
        with tracing(lab) as tracer:
            found = "\n".join(mine(left(), pids | {tracer}))
        for thing in (
            f"namespace {NAME}",
            f"clusterrole {NAME}-prometheus",
            f"clusterrolebinding {NAME}-prometheus",
            f"{reference} on {node}",
            f"images in Docker   {pushed.name}",
            *(f"pid {pid}: python -m service" for pid in pids),
            f"held by pid {tracer}",
        ):
            assert thing in found, f"{thing} is not in\n{found}"

    docker("image", "rm", pushed.name)
    remove_from_node(node, reference)
    wait_until(lambda: not mine(left(), pids | {tracer}), "nothing is left", seconds=60)
    assert not [line for line in left() if NAME in json.dumps(line)]
