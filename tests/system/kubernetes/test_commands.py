"""The commands of the outputs, run as they are written, against a lab of which one pod in three leaks."""

from __future__ import annotations

import json
import os
import platform
import pty
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from comparison.guide.ig import build_image, without_kprobes
from diagnosis.base.errors import LabError
from diagnosis.learn.tasks import FINDING
from infra import versions
from infra.references import mirrored
from tests.support.docker_cli import docker
from tests.system.conftest import BASE_IMAGE, BUILD_NETWORK
from tests.system.kubernetes.harness import REGISTRY, deployed, items, kubectl
from tests.system.tracing import solving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.kubernetes.conftest import Declare
    from tests.system.kubernetes.harness import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.docker, pytest.mark.timeout(400)]

NAMESPACE = "memleak-lab-commands"
# The leak goes on for ten minutes, and so for as long as any of the tests looks.
CAP_MIB = 1000
LEAKS = "catalog_cache_insert"
HEADERS = (Path(f"/lib/modules/{platform.release()}/build"), Path("/sys/kernel/kheaders.tar.xz"))
WITH_BCC = any(path.exists() for path in HEADERS)
# The tools are installed when the image is built, and its list of packages is emptied: the commands' own installation
# finds all there, on a node without a way to the packages too.
TOOLBOX = f"""
FROM {BASE_IMAGE}
RUN apt-get update -qq \
 && apt-get install -qq -y --no-install-recommends bpftrace {"bpfcc-tools" if WITH_BCC else ""} procps >/dev/null \
 && rm -rf /var/lib/apt/lists/* /etc/apt/sources.list /etc/apt/sources.list.d/*
"""


@pytest.fixture(scope="module")
def toolbox(base_image: str) -> None:
    """The image in which the commands run their tools, where a mirror of third-party images has it."""
    assert base_image == BASE_IMAGE
    name = mirrored(versions.TOOLBOX_IMAGE, REGISTRY)
    network = [f"--network={BUILD_NETWORK}"] if BUILD_NETWORK else []
    command = ["docker", "build", "--quiet", *network, "--tag", name, "-"]
    built = subprocess.run(command, input=TOOLBOX, capture_output=True, text=True, check=False)
    if built.returncode:
        pytest.skip(f"the tools cannot be installed: {built.stderr[-300:]}")
    docker("push", "--quiet", name)


@pytest.fixture(scope="module")
def lab(declare: Declare) -> Iterator[Lab]:
    with deployed(declare(NAMESPACE, replicas=3, speed=20, capMiB=CAP_MIB, prometheus=False, mirror=REGISTRY)) as lab:
        yield lab


@pytest.fixture(autouse=True)
def debuggers() -> Iterator[None]:
    """`kubectl debug` leaves its pods where they are."""

    def found() -> set[str]:
        return {name for pod in items("pods") if (name := pod["metadata"]["name"]).startswith("node-debugger-")}

    before = found()
    yield
    left = found() - before
    if left:
        kubectl("delete", "pod", "--now", *left)


def on_a_terminal(command: str, seconds: float) -> str:
    """What a person sees who pastes the command: its output, on a terminal."""
    here, there = pty.openpty()
    with subprocess.Popen(["sh", "-c", command], stdin=there, stdout=there, stderr=there) as process:
        os.close(there)
        chunks = []
        try:
            while chunk := _read(here):
                chunks.append(chunk)
            process.wait(seconds)
        finally:
            process.kill()
            os.close(here)
    return b"".join(chunks).decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.ebpf
@pytest.mark.usefixtures("toolbox")
def test_bpftrace_traces_the_pod_that_leaks(lab: Lab) -> None:
    seen = on_a_terminal(lab.recording.outputs["bpftrace_command"], 200)

    # Peers refresh nothing: without the leak's stack it was one of theirs.
    assert LEAKS in seen, seen
    assert "@bytes[" in seen


@pytest.mark.ebpf
@pytest.mark.usefixtures("toolbox")
@pytest.mark.skipif(not WITH_BCC, reason="BCC needs the running kernel's headers")
def test_bcc_traces_the_pod_that_leaks(lab: Lab) -> None:
    seen = on_a_terminal(lab.recording.outputs["bcc_command"], 200)

    assert LEAKS in seen, seen


def test_the_ledger_is_the_leaking_pods(lab: Lab) -> None:
    assert lab.ledger(wanted=lambda ledger: ledger["bytes_live"] > 0)["cap_bytes"] == CAP_MIB << 20


@pytest.mark.ebpf
def test_a_learner_finds_the_leak_in_the_pod_that_leaks(lab: Lab) -> None:
    """Beside two that do not; the service's own ports are free on the machine of the node."""
    seen = on_a_terminal(solving(lab.recording.outputs["learn_command"]), 200)

    assert f"SOLVED: {len(FINDING)} tasks" in seen, seen


def daemons_registry() -> str:
    """The registry without TLS from which Inspektor Gadget's daemon pulls; none: there is no such daemon."""
    found = kubectl("--namespace", "gadget", "get", "configmap", "gadget", "--output=json", check=False)
    if found.returncode:
        return ""
    config = yaml.safe_load(json.loads(found.stdout)["data"]["config.yaml"])
    registries = config["operator"]["oci"].get("insecure-registries") or [""]
    return str(registries[0])


def test_the_gadget_command_runs_on_the_pod_that_leaks(lab: Lab, declare: Declare) -> None:
    if not shutil.which("kubectl-gadget"):
        pytest.skip("needs kubectl-gadget on the PATH")
    if not (registry := daemons_registry()):
        pytest.skip("needs Inspektor Gadget in the cluster, and a registry without TLS for it")
    try:
        build_image(f"{REGISTRY}/memleak:commands")
    except LabError as error:
        pytest.skip(str(error))
    push = ["ig", "image", "push", f"{REGISTRY}/memleak:commands", f"--insecure-registries={REGISTRY}"]
    subprocess.run(push, check=True, capture_output=True)
    # The cluster's own daemon runs it: only the command is this stack's.
    own = declare(NAMESPACE, replicas=3, gadget="memleak", gadgetImage=f"{registry}/memleak:commands")
    command = own.recording.outputs["gadget_command"]

    # It runs until Ctrl-C.
    seen = on_a_terminal(f"timeout --signal=INT 20 {command}", 60)

    (pod,) = lab.items("pods", "--selector", command.split(" --selector ")[1].split()[0])
    (container,) = pod["spec"]["containers"]
    assert {one["name"]: one["value"] for one in container["env"]}["LAB_CAP_BYTES"] == str(CAP_MIB << 20)
    assert "K8S.PODNAME" in seen, seen
    if not without_kprobes():
        assert pod["metadata"]["name"] in seen
        assert "leaker-peers" not in seen
