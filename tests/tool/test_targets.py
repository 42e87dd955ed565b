"""From names of containers and pods to a process, on a recorded /proc and with recorded answers of the runtimes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.target.targets import groups_of_container, process_of_container, process_of_pod, run_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LEAKER = "1" * 64
OTHER = "2" * 64


def record(proc: Path, pid: int, container: str, anonymous_kib: int) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "cgroup").write_text(f"12:pids:/kubepods/burstable/pod1/{container}\n0::/\n")
    (folder / "status").write_text(f"Name:\tpython\nVmRSS:\t{anonymous_kib + 100} kB\nRssAnon:\t{anonymous_kib} kB\n")
    (folder / "cmdline").write_bytes(b"python\0")
    (folder / "stat").write_text(f"{pid} (python) S 1 {pid} {pid} 0 -1\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A container with a small init and a large worker, and another container."""
    record(tmp_path, 101, LEAKER, 500)
    record(tmp_path, 102, LEAKER, 90_000)
    record(tmp_path, 103, OTHER, 900_000)
    (tmp_path / "self").mkdir()
    return tmp_path


class Commands:
    """Answers of commands by their first word; the others are not installed."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = answers
        self.asked: list[Sequence[str]] = []

    def __call__(self, command: Sequence[str]) -> str:
        self.asked.append(command)
        if command[0] not in self.answers:
            raise LabError(f"{command[0]} is not installed")
        return self.answers[command[0]]


def pod(container: str = "leaker", identity: str = f"containerd://{LEAKER}") -> str:
    return json.dumps(
        {
            "spec": {"nodeName": "node1", "containers": [{"name": "leaker"}, {"name": "sidecar"}]},
            "status": {"containerStatuses": [{"name": container, "containerID": identity}]},
        }
    )


def test_a_container_is_found_by_its_control_group(proc: Path) -> None:
    assert groups_of_container(LEAKER, proc) == {f"/kubepods/burstable/pod1/{LEAKER}": [101, 102]}


@pytest.mark.parametrize(
    "path",
    [
        f"/docker/{LEAKER}",
        f"/system.slice/docker-{LEAKER}.scope",
        f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{LEAKER}.scope",
        f"/kubepods.slice/crio-{LEAKER}.scope",
        f"/machine.slice/libpod-{LEAKER}.scope/container",
        f"/docker/{OTHER}/kubelet/kubepods/pod1/{LEAKER}",
    ],
)
def test_each_runtimes_control_group_is_known(tmp_path: Path, path: str) -> None:
    record(tmp_path, 7, LEAKER, 1)
    (tmp_path / "7" / "cgroup").write_text(f"0::{path}\n")
    assert list(groups_of_container(LEAKER[:12], tmp_path).values()) == [[7]]


@pytest.mark.parametrize(
    "path", [f"/user.slice/x{LEAKER}", f"/a/{LEAKER}b", f"/crio-conmon-{LEAKER}.scope", f"/a:{LEAKER}", f"/a/{LEAKER} "]
)
def test_a_control_group_that_only_contains_the_id_is_not_the_containers(proc: Path, path: str) -> None:
    """Whoever has control groups of his own gives them any name."""
    record(proc, 50, OTHER, 10_000_000)
    (proc / "50" / "cgroup").write_text(f"0::{path}\n")
    assert process_of_container(LEAKER, Commands({}), proc).pid == 102


def test_a_name_that_several_containers_have_lists_them(proc: Path) -> None:
    commands = Commands({"crictl": f"{LEAKER}\n{OTHER}\n"})
    with pytest.raises(
        LabError, match=r"^container 'leaker' is one of 2: .*1{64} \(pid 101\).*2{64} \(pid 103\): name"
    ):
        process_of_container("leaker", commands, proc)


def test_a_control_group_of_the_containers_name_elsewhere_is_said(proc: Path) -> None:
    record(proc, 50, LEAKER, 10_000_000)
    (proc / "50" / "cgroup").write_text(f"0::/user.slice/{LEAKER}\n")
    with pytest.raises(LabError, match=r"is one of 2: .*/user\.slice/"):
        process_of_container("leaker", Commands({"docker": f"{LEAKER}\n"}), proc)


@pytest.mark.parametrize("name", ["--all", "", "a b", "$(id)", "a/b", "x" * 300])
def test_what_is_no_containers_name_is_given_to_no_command(proc: Path, name: str) -> None:
    commands = Commands({})
    with pytest.raises(LabError, match="is no container's name"):
        process_of_container(name, commands, proc)
    assert not commands.asked


def test_the_process_that_holds_most_is_the_containers_main_one(proc: Path) -> None:
    process = process_of_container("leaker", Commands({"docker": f"{LEAKER}\n"}), proc)
    assert process.pid == 102


def test_containerd_is_asked_where_docker_does_not_know_the_name(proc: Path) -> None:
    commands = Commands({"crictl": f"{LEAKER}\n"})
    assert process_of_container("leaker", commands, proc).pid == 102
    assert [command[0] for command in commands.asked] == ["docker", "crictl"]


def test_an_id_needs_no_runtime(proc: Path) -> None:
    assert process_of_container(LEAKER[:12], Commands({}), proc).pid == 102


def test_an_unknown_container_is_one_line_with_a_remedy(proc: Path) -> None:
    with pytest.raises(LabError, match=r"^no container 'nope' runs on this machine: list them with: docker ps"):
        process_of_container("nope", Commands({}), proc)


def test_a_pod_is_found_through_its_first_container(proc: Path) -> None:
    commands = Commands({"kubectl": pod()})
    assert process_of_pod("demo/leaker-0", commands, proc).pid == 102
    assert commands.asked[0][:5] == ["kubectl", "get", "pod", "--namespace", "demo"]


def test_a_pod_on_another_node_says_where(proc: Path) -> None:
    elsewhere = Commands({"kubectl": pod(identity="containerd://" + "9" * 64)})
    with pytest.raises(LabError, match=r"^pod demo/leaker-0 runs on node node1, not here: run this command on node1"):
        process_of_pod("demo/leaker-0", elsewhere, proc)


def test_a_container_that_the_pod_has_not_is_named_beside_those_it_has(proc: Path) -> None:
    with pytest.raises(LabError, match=r"no running container 'sidecar': it has: leaker"):
        process_of_pod("demo/leaker-0/sidecar", Commands({"kubectl": pod()}), proc)


@pytest.mark.parametrize("name", ["leaker", "demo/", "/leaker", "a/b/c/d"])
def test_what_names_no_pod_is_refused(proc: Path, name: str) -> None:
    with pytest.raises(LabError, match=r"is no pod: write --pod NAMESPACE/POD"):
        process_of_pod(name, Commands({}), proc)


def test_a_cluster_that_does_not_answer_is_one_line_with_a_remedy(proc: Path) -> None:
    def run(words: Sequence[str]) -> str:
        raise LabError(f"{' '.join(words)}: E1126 memcache.go:265\nE1126 memcache.go:265\nThe connection was refused\n")

    with pytest.raises(LabError) as caught:
        process_of_pod("no/such", run, proc)
    assert str(caught.value) == (
        "--pod no/such: The connection was refused: list them with: kubectl get pods --all-namespaces; "
        "choose the cluster with: kubectl config use-context CONTEXT"
    )


def test_a_command_that_fails_is_quoted() -> None:
    with pytest.raises(LabError, match=r"cat /nowhere: .*No such file"):
        run_command(["cat", "/nowhere"])
    with pytest.raises(LabError, match=r"no-such-command is not installed"):
        run_command(["no-such-command"])
