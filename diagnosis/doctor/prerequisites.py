"""What each way to run the lab needs beside this checkout: Docker, Pulumi, kubectl and a cluster, free memory.

Standard library only: it answers before anything is installed (`python3 -m diagnosis.doctor`).
"""

from __future__ import annotations

import enum
import json
import re
import subprocess
from typing import TYPE_CHECKING

from diagnosis.doctor.preflight import OLDEST_KERNEL, Check, check_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from diagnosis.doctor.preflight import Machine

    Answer: TypeAlias = tuple[int, str]
    Ask: TypeAlias = Callable[[Sequence[str]], Answer]

OLDEST_PULUMI = (3, 272)
NOT_INSTALLED = 127
ASK_SECONDS = 15
GIB = 1 << 30
# The leak's cap of 2000 MiB, 512 MiB for the rest of the leaker, and its visitors, Prometheus and Grafana.
MEMORY_BYTES = 3 * GIB
SMALLER = "pulumi config set capMiB 500"
MEMORY_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": GIB}


class Way(enum.StrEnum):
    """The ways to run the lab."""

    LAB = "lab"
    DOCKER = "docker"
    CLUSTER = "cluster"


def ask(words: Sequence[str]) -> Answer:
    """A command's exit status and what it says: its output, or its errors where it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=ASK_SECONDS)
    except FileNotFoundError:
        return NOT_INSTALLED, f"{words[0]} is not installed"
    except subprocess.TimeoutExpired:
        return 1, f"no answer in {ASK_SECONDS} s"
    said = done.stdout if done.returncode == 0 else done.stderr or done.stdout
    return done.returncode, said.strip()


def check_way(way: Way, machine: Machine, question: Ask = ask) -> list[Check]:
    """Everything that this way needs; a later check that makes no sense without an earlier one is left out."""
    if way is Way.LAB:
        return check_machine(machine)
    docker = _docker(question)
    checks = [docker, _pulumi(question)]
    if way is Way.DOCKER:
        return [*checks, *([_free_memory(machine)] if (machine.proc / "meminfo").exists() else [])]
    kubectl = _kubectl(question)
    checks.append(kubectl)
    if kubectl.ok:
        checks.append(context := _context(machine, question))
        if context.ok:
            checks += _nodes(question)
    return checks


def _first(text: str) -> str:
    return text.splitlines()[0] if text else ""


def _docker(question: Ask) -> Check:
    status, said = question(["docker", "info", "--format", "{{.ServerVersion}}"])
    if status == NOT_INSTALLED:
        return Check("Docker", ok=False, found=said, remedy="https://docs.docker.com/engine/install/")
    remedy = "" if status == 0 else "start it (sudo systemctl start docker), and see `docker context ls`"
    return Check("Docker", ok=status == 0, found=_first(said), remedy=remedy)


def _pulumi(question: Ask) -> Check:
    status, said = question(["pulumi", "version"])
    found = re.match(r"v?(\d+)\.(\d+)", said) if status == 0 else None
    ok = found is not None and (int(found[1]), int(found[2])) >= OLDEST_PULUMI
    oldest = ".".join(map(str, OLDEST_PULUMI))
    remedy = "" if ok else f"install {oldest} or newer: https://www.pulumi.com/docs/install/"
    return Check("Pulumi", ok=ok, found=_first(said), remedy=remedy)


def _free_memory(machine: Machine) -> Check:
    lines = dict(line.split(":", 1) for line in (machine.proc / "meminfo").read_text().splitlines() if ":" in line)
    free = int(lines["MemAvailable"].split()[0]) << 10
    return _memory("free memory", free)


def _memory(name: str, found: int, more: str = "") -> Check:
    ok = found >= MEMORY_BYTES
    text = f"{found / GIB:.1f} GiB"
    return Check(name, ok, text, "" if ok else f"the defaults need {MEMORY_BYTES // GIB} GiB{more}: {SMALLER}")


def _kubectl(question: Ask) -> Check:
    status, said = question(["kubectl", "version", "--client"])
    remedy = "" if status == 0 else "https://kubernetes.io/docs/tasks/tools/#kubectl"
    return Check("kubectl", ok=status == 0, found=_first(said), remedy=remedy)


def _context(machine: Machine, question: Ask) -> Check:
    if ":" in (named := machine.environ.get("KUBECONFIG", "")):
        merge = "kubectl config view --flatten > ~/.kube/memleak-lab; export KUBECONFIG=~/.kube/memleak-lab"
        return Check("context", ok=False, found=f"KUBECONFIG names several files: {named}", remedy=merge)
    status, said = question(["kubectl", "config", "current-context"])
    if status == 0:
        return Check("context", ok=True, found=said)
    installed = question(["kind", "version"])[0] != NOT_INSTALLED
    make = "make kind" if installed else "https://kind.sigs.k8s.io/docs/user/quick-start/#installation, then make kind"
    return Check("context", ok=False, found=_first(said), remedy=f"kubectl config use-context CONTEXT, or {make}")


def _nodes(question: Ask) -> list[Check]:
    status, said = question(["kubectl", "get", "nodes", "--request-timeout=10s", "--output=json"])
    if status:
        remedy = "start the cluster, or choose another: kubectl config use-context CONTEXT"
        return [Check("cluster", ok=False, found=_first(said), remedy=remedy)]
    nodes = json.loads(said)["items"]
    kernels = sorted({node["status"]["nodeInfo"]["kernelVersion"] for node in nodes})
    old = [kernel for kernel in kernels if _version(kernel) < OLDEST_KERNEL]
    oldest = ".".join(map(str, OLDEST_KERNEL))
    return [
        Check("cluster", ok=True, found=f"{len(nodes)} nodes"),
        Check(
            "nodes' kernels", not old, ", ".join(kernels), f"give the nodes a kernel {oldest} or newer" if old else ""
        ),
        _memory(
            "largest node",
            max((_bytes(node["status"]["allocatable"]["memory"]) for node in nodes), default=0),
            # The new pod is ready before the old one ends.
            ", twice that while a changed setting rolls the leaker",
        ),
    ]


def _version(kernel: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", kernel)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _bytes(quantity: str) -> int:
    found = re.fullmatch(r"(\d+)(Ki|Mi|Gi)?", quantity)
    return int(found[1]) * MEMORY_UNITS[found[2] or ""] if found else 0
