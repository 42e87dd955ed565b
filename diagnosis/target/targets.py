"""Which process to trace: from a pid, a container's name or a pod to one process of this machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.base.text import last_line
from diagnosis.target.process import PROC, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    Run = Callable[[Sequence[str]], str]

# Docker's and containerd's ids: 64 hexadecimal digits, of which the first twelve are often typed.
_ID = re.compile(r"[0-9a-f]{12,64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}")
# A container's part of the path of its control group: the id, or a scope of systemd that a runtime names by it.
_PART = re.compile(r"(?:(?:docker|cri-containerd|containerd|crio|libpod|nerdctl)-)?([0-9a-f]{64})(?:\.scope)?")
COMMAND_SECONDS = 20.0
PODS = "list them with: kubectl get pods --all-namespaces; choose the cluster with: kubectl config use-context CONTEXT"


def run_command(command: Sequence[str]) -> str:
    """The output of a command.

    Raises:
        LabError: it is not installed, or failed; the text holds what it said.
    """
    if not shutil.which(command[0]):
        raise LabError(f"{command[0]} is not installed", "name the process itself: --pid")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(command)} did not answer in {COMMAND_SECONDS:g} s") from error
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout


def process_of_container(name: str, run: Run = run_command, proc: Path = PROC) -> Process:
    """The main process of a container, by its name in Docker or containerd, or by its id.

    Raises:
        LabError: there is no such container, or it has no process here.
    """
    return _main_process(pids_of_named_container(name, run, proc), proc)


def pids_of_named_container(name: str, run: Run = run_command, proc: Path = PROC) -> list[int]:
    """Every process of a container, by its name in Docker or containerd, or by its id.

    Raises:
        LabError: there is no such container, it has no process here, or there are several.
    """
    if not _NAME.fullmatch(name):
        raise LabError(f"--container {name} is no container's name", "list them with: docker ps, or crictl ps")
    found: dict[str, list[int]] = {}
    for identity in dict.fromkeys(_container_ids(name, run)):
        found |= {group: pids for group, pids in groups_of_container(identity, proc).items() if pids}
    if not found:
        raise LabError(f"no container '{name}' runs on this machine", "list them with: docker ps, or crictl ps")
    return _only(f"container '{name}'", found)


def process_of_pod(name: str, run: Run = run_command, proc: Path = PROC) -> Process:
    """The main process of a pod's first container, or of the one named.

    Args:
        name: NAMESPACE/POD or NAMESPACE/POD/CONTAINER.
        run: runs kubectl.
        proc: where procfs is mounted.

    Raises:
        LabError: there is no such pod, or its node is another machine.
    """
    parts = name.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise LabError(f"--pod {name} is no pod", "write --pod NAMESPACE/POD or NAMESPACE/POD/CONTAINER")
    namespace, pod, *container = parts
    try:
        found = json.loads(run(["kubectl", "get", "pod", "--namespace", namespace, pod, "--output", "json"]))
    except LabError as error:
        raise LabError(f"--pod {name}: {last_line(error.what)}", error.remedy or PODS) from error
    statuses = {status["name"]: status for status in found.get("status", {}).get("containerStatuses", [])}
    first = found["spec"]["containers"][0]["name"]
    chosen = container[0] if container else first
    if chosen not in statuses:
        raise LabError(f"pod {namespace}/{pod} has no running container '{chosen}'", f"it has: {', '.join(statuses)}")
    identity = str(statuses[chosen].get("containerID", "")).rpartition("//")[2]
    if groups := groups_of_container(identity, proc):
        return _main_process(_only(f"container of pod {namespace}/{pod}", groups), proc)
    node = found["spec"].get("nodeName", "no node yet")
    raise LabError(f"pod {namespace}/{pod} runs on node {node}, not here", f"run this command on {node}, as root")


def groups_of_container(identity: str, proc: Path = PROC) -> dict[str, list[int]]:
    """The processes of a container by its control group, which is one unless somebody has made another of its name.

    Not the pid that the container's runtime names: where the node is itself a container, as with kind, that pid is
    one of another pid namespace. The id has to be a whole part of the path, as a runtime writes it: a part that only
    contains it can be made by anybody who has control groups of his own.

    Args:
        identity: 12 to 64 hexadecimal digits, the first ones of the id.
        proc: where procfs is mounted.
    """
    found: dict[str, list[int]] = {}
    if not _ID.fullmatch(identity):
        return found
    for entry in proc.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            groups = (entry / "cgroup").read_bytes().decode(errors="surrogateescape")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if group := _group(groups, identity):
            found.setdefault(group, []).append(int(entry.name))
    return {group: sorted(pids) for group, pids in found.items()}


def _group(groups: str, identity: str) -> str:
    """The path down to the container's part, from the lines of /proc/PID/cgroup; "" where it has none."""
    for line in groups.split("\n"):
        parts = line.partition(":")[2].partition(":")[2].split("/")
        for depth, part in enumerate(parts, 1):
            match = _PART.fullmatch(part)
            if match and match[1].startswith(identity):
                return "/".join(parts[:depth])
    return ""


def _only(what: str, groups: Mapping[str, list[int]]) -> list[int]:
    """The processes of the one group that there is.

    Raises:
        LabError: there are several; the text lists them.
    """
    if len(groups) == 1:
        return next(iter(groups.values()))
    candidates = "; ".join(f"{group} (pid {pids[0]})" for group, pids in sorted(groups.items()))
    raise LabError(f"{what} is one of {len(groups)}: {candidates}", "name the process itself: --pid, or the whole id")


def _container_ids(name: str, run: Run) -> list[str]:
    """What the runtimes on this machine call by this name; a name that looks like an id is one."""
    found = [name] if _ID.fullmatch(name) else []
    for command in (
        ["docker", "inspect", "--type", "container", "--format", "{{.Id}}", name],
        ["crictl", "ps", "--quiet", "--name", f"^{re.escape(name)}$"],
    ):
        try:
            found += run(command).split()
        except LabError:
            continue  # this runtime is not here, or does not know the name: the next one may
    return found


def _main_process(pids: Sequence[int], proc: Path) -> Process:
    """The process that holds most: a container's first one is often a shell or an init."""
    processes = []
    for pid in pids:
        try:
            process = Process(pid, proc)
            processes.append((process.resident().anonymous_bytes, process))
        except LabError:
            continue  # it has just ended
    if not processes:
        raise LabError("the container's processes have ended", "start it again, and trace it while it runs")
    return max(processes, key=lambda each: each[0])[1]
