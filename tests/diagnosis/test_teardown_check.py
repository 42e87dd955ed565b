from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from heap_trace import HeapTrace, Unwinding, UnwindMode
from heap_trace.forks import Forks
from heap_trace.page_faults import PageFaults
from heap_trace.unwind import Capacity

from diagnosis.base.errors import LabError
from diagnosis.cli import main as cli
from diagnosis.doctor.teardown_check import PROGRAMS, State, Teardown, all_seen, anything_left
from diagnosis.trace.bpf_programs import loaded_programs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from diagnosis.doctor.teardown_check import Finding
    from tests.diagnosis.command import Command

LABEL = "app.kubernetes.io/part-of"
DIGEST = "@sha256:" + "0" * 64


def document(kind: str, name: str, part_of: str = "memleak-lab", **more: object) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, "labels": {LABEL: part_of}}, **more}


class Machine:
    """A machine's commands, its /proc and its eBPF programs; empty at first."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.objects: list[dict[str, Any]] = []
        self.images: list[str] = []
        self.docker: dict[str, str] = {}
        self.programs: dict[int, str] = {}
        self.failing = ""
        proc.mkdir()

    def run(self, command: Sequence[str]) -> str:
        if command[0] == self.failing:
            raise LabError(f"{command[0]}: tried\nconnection refused")
        if command[0] == "docker":
            return self.docker.get(command[1], "")
        kinds = command[2]
        if kinds == "nodes":
            node = document("Node", "node1", "", status={"images": [{"names": self.images}, {"names": None}]})
            return json.dumps({"items": [node]})
        wanted = [one for one in self.objects if f"{one['kind'].lower()}s" in kinds]
        if "--selector" in command:
            wanted = [
                one for one in wanted if one["metadata"]["labels"].get(LABEL) in {"memleak-lab", "inspektor-gadget"}
            ]
        return json.dumps({"items": wanted})

    def process(self, pid: int, *words: str, program: int = 0) -> None:
        folder = self.proc / str(pid)
        (folder / "fdinfo").mkdir(parents=True)
        (folder / "cmdline").write_bytes("\0".join(words).encode() + b"\0")
        if program:
            (folder / "fdinfo" / "7").write_text(f"pos:\t0\nlink_type:\ttracing\nprog_id:\t{program}\n")

    def left(self) -> list[str]:
        return [finding.text for finding in self.findings() if finding.state is State.LEFT]

    def findings(self) -> list[Finding]:
        return Teardown("lab", "memleak-demo", self.run, self.proc, lambda: self.programs).findings()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "proc")


def test_an_empty_machine_has_nothing_left_in_any_place(machine: Machine) -> None:
    findings = machine.findings()
    assert {finding.state for finding in findings} == {State.GONE}
    assert len(findings) == 6
    assert not anything_left(findings)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Namespace", "lab"),
        ("ClusterRole", "lab-prometheus"),
        ("ClusterRoleBinding", "lab-prometheus"),
        ("Namespace", "gadget"),
    ],
)
def test_objects_of_no_namespace_are_found(kind: str, name: str, machine: Machine) -> None:
    machine.objects = [document(kind, name)]
    assert machine.left() == [f"{kind.lower()} {name}"]
    (finding,) = [one for one in machine.findings() if one.state is State.LEFT]
    assert finding.remedy == f"kubectl delete {kind.lower()} {name}"


def test_a_gadgets_cluster_role_without_its_namespace_is_found(machine: Machine) -> None:
    machine.objects = [document("ClusterRole", "gadget-cluster-role", "inspektor-gadget")]
    assert machine.left() == ["clusterrole gadget-cluster-role"]


def test_what_others_have_is_not_the_labs(machine: Machine) -> None:
    machine.objects = [
        document("Namespace", "another-lab"),
        document("ClusterRole", "another-lab-prometheus"),
        document("Namespace", "gadget", "inspektor-gadget"),
        document("ClusterRole", "gadget-cluster-role", "inspektor-gadget"),
    ]
    machine.images = ["docker.io/library/memleak-demo-other:1", "memleak-demo/tool:1"]
    machine.docker = {"ps": "another-lab-leaker", "images": "postgres:17"}
    machine.process(10, "python", "-m", "services")
    machine.process(11, "vim", "service.py")
    machine.programs = {3: "sched_switch"}
    assert machine.left() == []


def test_a_namespace_without_a_label_is_found_by_its_name(machine: Machine) -> None:
    machine.objects = [document("Namespace", "lab", "")]
    assert machine.left() == ["namespace lab"]


@pytest.mark.parametrize(
    "name", ["localhost:5001/memleak-demo" + DIGEST, "docker.io/me/memleak-demo:1", "memleak-demo:1"]
)
def test_images_are_found_in_whatever_registry(name: str, machine: Machine) -> None:
    machine.images = [name]
    assert machine.left() == [f"{name} on node1"]


def test_containers_networks_and_images_of_docker_are_found(machine: Machine) -> None:
    machine.docker = {"ps": "lab-leaker\nlab-grafana", "network": "lab", "images": "memleak-demo:1\nmemleak-demo:1"}
    assert machine.left() == ["container lab-leaker", "container lab-grafana", "network lab", "memleak-demo:1"]


@pytest.mark.parametrize(
    "words",
    [
        ("python", "-m", "service"),
        ("/usr/bin/python3", "-u", "-m", "service.visitors"),
        ("/opt/bin/memleak-lab", "run"),
        ("python3", "/opt/bin/memleak-lab", "trace"),
    ],
)
def test_processes_are_found(words: tuple[str, ...], machine: Machine) -> None:
    machine.process(4242, *words)
    assert machine.left() == [f"pid 4242: {' '.join(words)}"]


def test_the_command_itself_is_no_remains(machine: Machine) -> None:
    machine.process(os.getpid(), "python3", "/opt/bin/memleak-lab", "doctor", "--gone")
    assert machine.left() == []


def test_what_runs_is_named_with_when_it_began(machine: Machine) -> None:
    """It can be somebody's trace: killing it is no cleaning up."""
    machine.process(4242, "memleak-lab", "trace", program=5)
    (machine.proc / "4242" / "status").touch()
    hour = round((time.clock_gettime(time.CLOCK_BOOTTIME) - 3600) * os.sysconf("SC_CLK_TCK"))
    (machine.proc / "4242" / "stat").write_text(f"4242 (x) S {' '.join(['1'] * 18)} {hour} 1 1 1 1 1\n")
    machine.programs = {5: "heap_session", 6: "page_fault"}
    began = time.strftime("%Y-%m-%d %H:", time.localtime(time.time() - 3600))
    process, held, pinned = (one for one in machine.findings() if one.state is State.LEFT)
    assert process.text.startswith(f"pid 4242: memleak-lab trace (running since {began}")
    assert held.text.startswith(f"heap_session (id 5), held by pid 4242 (running since {began}")
    assert process.remedy == held.remedy == "kill 4242    # unless somebody uses it"
    assert pinned.remedy.startswith("bpftool --bpffs prog show id 6 ")


def test_programs_are_found_with_their_holder(machine: Machine) -> None:
    machine.process(77, "tracer", program=5)
    machine.programs = {5: "heap_session", 6: "page_fault"}
    assert machine.left() == [
        "heap_session (id 5), held by pid 77",
        "page_fault (id 6), held by no process of this machine",
    ]


@pytest.mark.parametrize(("failing", "places"), [("kubectl", 2), ("docker", 2)])
def test_a_place_that_cannot_be_looked_at_is_said_and_hides_no_other(
    failing: str, places: int, machine: Machine
) -> None:
    machine.failing = failing
    machine.process(4242, "python", "-m", "service")
    findings = machine.findings()
    unseen = [finding.text for finding in findings if finding.state is State.UNSEEN]
    assert unseen == ["not looked at: connection refused"] * places
    assert anything_left(findings)
    assert not all_seen(findings)


@pytest.mark.parametrize(("failing", "status"), [("", 0), ("kubectl", 5), ("docker", 5)])
def test_a_place_that_could_not_be_looked_at_has_an_exit_status(
    memleak_lab: Command, monkeypatch: pytest.MonkeyPatch, machine: Machine, failing: str, status: int
) -> None:
    machine.failing = failing
    monkeypatch.setattr(cli, "Teardown", lambda *_: machine)
    ended, out, err = memleak_lab("doctor", "--gone")
    assert (ended, err) == (status, "")
    assert ("unseen" in out) == bool(failing)
    machine.process(4242, "python", "-m", "service")
    assert memleak_lab("doctor", "--gone")[0] == 1


def _by_tables() -> PageFaults:
    room = Capacity(rows=1024, chunks=64, rules=64)
    return PageFaults(pid=os.getpid(), unwinding=Unwinding(UnwindMode.ON, room, memo_sets=0))


@pytest.mark.ebpf
@pytest.mark.parametrize("opened", [HeapTrace, PageFaults, _by_tables, Forks])
def test_every_program_that_is_left_would_be_seen(opened: Callable[[], HeapTrace | PageFaults | Forks]) -> None:
    before = loaded_programs()
    with opened():
        ours = {name for number, name in loaded_programs().items() if number not in before}
    assert ours
    assert ours <= PROGRAMS
