"""What of the lab is still there after a teardown: in the cluster, in Docker, on this machine, and what removes it."""

from __future__ import annotations

import enum
import json
import os
import re
import shlex
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from diagnosis.base.errors import LabError
from diagnosis.base.text import last_line, safe_text
from diagnosis.target.process import PROC, Process
from diagnosis.target.targets import run_command
from diagnosis.trace.bpf_programs import loaded_programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console

    from diagnosis.target.targets import Run

PART_OF = "app.kubernetes.io/part-of"
LAB = "memleak-lab"
# Inspektor Gadget's own namespace and label. What is there without the lab's label belongs to others.
GADGET_NAMESPACE = "gadget"
GADGET = "inspektor-gadget"
CLUSTERWIDE = "namespaces,clusterroles,clusterrolebindings"
MODULES = ("service", "service.visitors")
# The functions of native/trace's eBPF programs: the kernel knows a program by its function's first 15 characters.
PROGRAMS = frozenset(
    {
        "heap_session",
        "heap_entry",
        "heap_return",
        "heap_signal",
        "page_fault",
        "page_fault_unwo",
        "fork_happened",
        "task_gone",
    }
)


# Remedies of what may be somebody's trace, and of what only a file under /sys/fs/bpf can hold, whose name it prints.
UNLESS_USED = "# unless somebody uses it"
UNPIN = "bpftool --bpffs prog show id {}    # prints where it is pinned: rm that file"
# In characters of a command line.
_SHOWN = 400

# What Kubernetes takes for a namespace (RFC 1123), and Docker for an image's repository.
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?::\d+)?(?:/{_COMPONENT})*")


def check_names(namespace: str, image: str) -> None:
    """Raise a LabError for a name that nothing can have: of it there would be nothing left at any time."""
    if not _NAMESPACE.fullmatch(namespace):
        raise LabError(
            f"--namespace is {namespace!r}: a namespace is up to 63 of a-z, 0-9 and -, with no - at its ends",
            "kubectl get namespaces lists them",
        )
    if not _REPOSITORY.fullmatch(image):
        raise LabError(
            f"--image is {image!r}: an image's name has a-z, 0-9 and . _ - / and no tag", "docker images lists them"
        )


class State(enum.StrEnum):
    """What was found in one place."""

    GONE = "gone"
    LEFT = "LEFT"
    UNSEEN = "unseen"


@dataclass(frozen=True)
class Finding:
    """One place, or one thing that is left there. ``remedy`` removes it."""

    place: str
    state: State
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Teardown:
    """A search for what a stack has left: by its namespace and its image's repository name. Where, has stand-ins."""

    namespace: str
    image: str
    run: Run = run_command
    proc: Path = PROC
    programs: Callable[[], Mapping[int, str]] = loaded_programs

    def findings(self) -> list[Finding]:
        """At least one for each place; nothing is changed."""
        places: Mapping[str, Callable[[], Iterable[Finding]]] = {
            "cluster": self._cluster,
            "images on nodes": self._node_images,
            "Docker": self._docker,
            "images in Docker": self._docker_images,
            "processes": self._processes,
            "eBPF programs": self._programs,
        }
        found: list[Finding] = []
        for place, look in places.items():
            try:
                left = list(look())
            except LabError as error:
                found.append(Finding(place, State.UNSEEN, f"not looked at: {last_line(str(error))}"))
                continue
            found += left or [Finding(place, State.GONE, "nothing is left")]
        return found

    def _cluster(self) -> Iterator[Finding]:
        """The namespace, with whatever is in it, and what belongs to no namespace."""
        selector = f"{PART_OF} in ({LAB},{GADGET})"
        labelled = self._kubectl("get", CLUSTERWIDE, "--selector", selector)
        spaces = self._kubectl("get", "namespaces")
        foreign = any(
            _name(one) == GADGET_NAMESPACE and one["metadata"].get("labels", {}).get(PART_OF) != LAB for one in spaces
        )
        named = [one for one in spaces if _name(one) == self.namespace]
        seen = set()
        for one in [*named, *labelled]:
            kind, name = one["kind"].lower(), _name(one)
            ours = name == self.namespace if kind == "namespace" else name.startswith(f"{self.namespace}-")
            gadgets = not foreign and name.partition("-")[0] == GADGET_NAMESPACE
            if (ours or gadgets) and (kind, name) not in seen:
                seen.add((kind, name))
                yield Finding("cluster", State.LEFT, f"{kind} {name}", _remedy("kubectl delete {} {}", kind, name))

    def _node_images(self) -> Iterator[Finding]:
        for node in self._kubectl("get", "nodes"):
            for image in node["status"].get("images", []):
                for name in image.get("names") or []:
                    if self._is_image(name):
                        remedy = "crictl rmi {}    # there; on kind: docker exec {} crictl rmi ..."
                        yield Finding(
                            "images on nodes",
                            State.LEFT,
                            f"{name} on {_name(node)}",
                            _remedy(remedy, name, _name(node)),
                        )

    def _docker(self) -> Iterator[Finding]:
        for kind, listing, remove in (
            ("container", ("ps", "--all", "--format", "{{.Names}}"), "docker rm --force --volumes"),
            ("network", ("network", "ls", "--format", "{{.Name}}"), "docker network rm"),
        ):
            for name in self.run(["docker", *listing, "--filter", f"label={PART_OF}={LAB}"]).split():
                if name == self.namespace or name.startswith(f"{self.namespace}-"):
                    yield Finding("Docker", State.LEFT, f"{kind} {name}", _remedy(f"{remove} {{}}", name))

    def _docker_images(self) -> Iterator[Finding]:
        for name in sorted(set(self.run(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]).split())):
            if self._is_image(name):
                yield Finding("images in Docker", State.LEFT, name, _remedy("docker image rm {}", name))

    def _processes(self) -> Iterator[Finding]:
        for pid, words in sorted(_commands(self.proc)):
            if pid not in _own_line(self.proc) and _is_labs(words):
                text = f"pid {pid}: {safe_text(shlex.join(words), _SHOWN)}{_since(pid, self.proc)}"
                yield Finding("processes", State.LEFT, text, f"kill {pid}    {UNLESS_USED}")

    def _programs(self) -> Iterator[Finding]:
        loaded = self.programs()
        holders = _holders(self.proc)
        for number, name in sorted(loaded.items()):
            if name in PROGRAMS:
                pids = sorted(holders.get(number, ()))
                holding = ", ".join(f"{pid}{_since(pid, self.proc)}" for pid in pids)
                held = f"held by pid {holding}" if pids else "held by no process of this machine"
                remedy = f"kill {' '.join(map(str, pids))}    {UNLESS_USED}" if pids else UNPIN.format(number)
                yield Finding("eBPF programs", State.LEFT, f"{name} (id {number}), {held}", remedy)

    def _kubectl(self, *arguments: str) -> list[dict[str, Any]]:
        return list(json.loads(self.run(["kubectl", *arguments, "--output", "json"]))["items"])

    def _is_image(self, name: str) -> bool:
        """Whether a reference is of the lab's repository, in whatever registry."""
        path = name.partition("@")[0].rpartition("/")[2]
        return path.partition(":")[0] == self.image.rpartition("/")[2]


def anything_left(findings: Sequence[Finding]) -> bool:
    """Whether something has to be removed still."""
    return any(finding.state is State.LEFT for finding in findings)


def all_seen(findings: Sequence[Finding]) -> bool:
    """Whether every place could be looked at."""
    return all(finding.state is not State.UNSEEN for finding in findings)


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """One line each, and what removes it in a line of its own: no name of a process can look like a remedy."""
    colours = {State.GONE: "green", State.LEFT: "red", State.UNSEEN: "yellow"}
    for finding in findings:
        line = Text(f"{finding.state:<7}", colours[finding.state])
        line.append(f" {finding.place:<18} {safe_text(finding.text)}", "default")
        console.print(line, highlight=False, soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"        remove it with: {finding.remedy}"), highlight=False, soft_wrap=True)


# What Docker, Kubernetes and registries allow in a name, and a shell takes as it is.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,511}")


def _remedy(line: str, *names: str) -> str:
    """A line to paste with these names in it, or "" where one is not such a name."""
    return line.format(*names) if all(_PLAIN.fullmatch(name) for name in names) else ""


def _name(document: Mapping[str, Any]) -> str:
    return str(document["metadata"]["name"])


def _commands(proc: Path) -> Iterator[tuple[int, list[str]]]:
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield int(entry.name), words


def _since(pid: int, proc: Path) -> str:
    """When a process began, by this machine's clock; "" where it has ended."""
    try:
        began = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + Process(pid, proc).started()
    except LabError:
        return ""
    return f" (running since {time.strftime('%Y-%m-%d %H:%M', time.localtime(began))})"


def _is_labs(words: Sequence[str]) -> bool:
    if any(Path(word).name == LAB for word in words[:2]):
        return True
    # `python -m service`, and with the interpreter's own options before.
    return any(option == "-m" and module in MODULES for option, module in pairwise(words[1:5]))


def _own_line(proc: Path) -> set[int]:
    """This process and those above it: `sudo memleak-lab doctor` is not left over."""
    pids, pid = set(), os.getpid()
    while pid > 1 and pid not in pids:
        pids.add(pid)
        try:
            fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            break
        pid = int(fields[1])
    return pids


def _holders(proc: Path) -> dict[int, set[int]]:
    """Which processes hold a file descriptor on an eBPF program or on a link to it, by the program's id."""
    found: dict[int, set[int]] = {}
    for info in proc.glob("[0-9]*/fdinfo/*"):
        try:
            text = info.read_text()
        except (OSError, UnicodeDecodeError):
            continue  # closed, ended, or not for this user
        for line in text.split("\n"):
            if line.startswith("prog_id:"):
                found.setdefault(int(line.split()[1]), set()).add(int(info.parts[-3]))
    return found
