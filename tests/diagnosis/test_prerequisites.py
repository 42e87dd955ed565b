"""What `doctor --for docker` and `--for cluster` find: each thing that is missing, with its remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from diagnosis.doctor.preflight import Machine
from diagnosis.doctor.prerequisites import NOT_INSTALLED, Way, check_way

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
MISSING = (NOT_INSTALLED, "it is not installed")


def node(kernel: str = "6.12.0", memory: str = "8Gi") -> dict[str, object]:
    return {"status": {"nodeInfo": {"kernelVersion": kernel}, "allocatable": {"memory": memory}}}


def answers(**changed: tuple[int, str]) -> dict[str, tuple[int, str]]:
    """What a machine that has everything says, by the command's first two words."""
    return {
        "docker info": (0, "28.0.1"),
        "pulumi version": (0, "v3.272.0"),
        "kubectl version": (0, "Client Version: v1.34.1"),
        "kubectl config": (0, "kind-lab"),
        "kubectl get": (0, json.dumps({"items": [node()]})),
        "kind version": (0, "kind v0.30.0"),
        **{name.replace("_", " "): answer for name, answer in changed.items()},
    }


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "meminfo").write_text("MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n")
    return Machine(environ={}, proc=tmp_path)


def found(way: Way, machine: Machine, **changed: tuple[int, str]) -> dict[str, tuple[bool, str]]:
    said = answers(**changed)

    def question(words: Sequence[str]) -> tuple[int, str]:
        return said[" ".join(words[:2])]

    return {check.name: (check.ok, check.remedy) for check in check_way(way, machine, question)}


def test_a_machine_that_has_everything_lacks_nothing(machine: Machine) -> None:
    assert found(Way.DOCKER, machine) == dict.fromkeys(("Docker", "Pulumi", "free memory"), (True, ""))
    cluster = ("Docker", "Pulumi", "kubectl", "context", "cluster", "nodes' kernels", "largest node")
    assert found(Way.CLUSTER, machine) == dict.fromkeys(cluster, (True, ""))


@pytest.mark.parametrize(
    ("changed", "check", "remedy"),
    [
        ({"docker_info": MISSING}, "Docker", "docs.docker.com"),
        ({"docker_info": (1, "Cannot connect to the Docker daemon")}, "Docker", "docker context ls"),
        ({"pulumi_version": MISSING}, "Pulumi", "install 3.272 or newer"),
        ({"pulumi_version": (0, "v3.99.0")}, "Pulumi", "install 3.272 or newer"),
        ({"kubectl_version": MISSING}, "kubectl", "kubernetes.io/docs"),
        ({"kubectl_config": (1, "error: current-context is not set")}, "context", "make kind"),
        ({"kubectl_get": (1, "Unable to connect to the server")}, "cluster", "kubectl config use-context"),
        ({"kubectl_get": (0, json.dumps({"items": [node(kernel="5.10.0-28")]}))}, "nodes' kernels", "5.15 or newer"),
        ({"kubectl_get": (0, json.dumps({"items": [node(memory="2048Mi")]}))}, "largest node", "capMiB 500"),
        (
            {"kubectl_get": (0, json.dumps({"items": [node(memory="2048Mi")]}))},
            "largest node",
            "need 3 GiB, twice that while a changed setting rolls the leaker:",
        ),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(
    changed: dict[str, tuple[int, str]], check: str, remedy: str, machine: Machine
) -> None:
    bad = {name: text for name, (ok, text) in found(Way.CLUSTER, machine, **changed).items() if not ok}
    assert list(bad) == [check]
    assert remedy in bad[check]


def test_little_free_memory_is_a_smaller_leak(machine: Machine) -> None:
    (machine.proc / "meminfo").write_text("MemAvailable: 1048576 kB\n")
    assert found(Way.DOCKER, machine)["free memory"][0] is False


def test_a_kubeconfig_of_several_files_is_said_before_pulumi_trips_over_it(machine: Machine) -> None:
    several = Machine(environ={"KUBECONFIG": "/a:/b"}, proc=machine.proc)
    ok, remedy = found(Way.CLUSTER, several)["context"]
    assert not ok
    assert "kubectl config view --flatten" in remedy


def test_it_answers_before_anything_is_installed() -> None:
    # Python alone, without this project's packages.
    run = (
        "import runpy; sys.argv = ['doctor', '--for', 'docker']; runpy.run_module('diagnosis.doctor', None, '__main__')"
    )
    bare = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {run}"]
    done = subprocess.run(bare, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert {line.split()[1] for line in done.stdout.splitlines()} >= {"Docker", "Pulumi"}
