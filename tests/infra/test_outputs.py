"""The outputs: all there, each a line that a shell can read, with nothing left to fill in but what it says."""

from __future__ import annotations

import json
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra import commands, versions
from tests.infra.cases import ALL
from tests.infra.conftest import CLUSTERS
from tests.support.recording import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.infra.cases import Case
    from tests.infra.conftest import Record
    from tests.support.recording import Recording

RELEASE = "kubernetes:helm.sh/v3:Release"
NAMES = {
    "image",
    "namespace",
    "gadget_command",
    "gadget_install_command",
    "bpftrace_command",
    "bcc_command",
    "port_forward_commands",
    "urls",
    "learn_command",
    "verify_command",
}


def _commands(recording: Recording) -> Iterator[tuple[str, str]]:
    for name, value in recording.outputs.items():
        if name.endswith("_command"):
            yield name, value
    yield from recording.outputs["port_forward_commands"].items()


@pytest.mark.parametrize("case", ALL, ids=str)
def test_every_output_is_there_and_every_command_is_one_line_of_shell(case: Case, recorded: Record) -> None:
    recording = recorded(case.environment, **case.settings)
    by_hand = case.settings.get("registry") == "none" and case.environment != "docker-desktop"
    on_docker = case.settings.get("target") == "docker" and case.settings.get("truth")
    more = ({"import_command"} if by_hand else set()) | ({"tracer_command"} if on_docker else set())
    assert set(recording.outputs) == NAMES | more
    for name, command in _commands(recording):
        checked = subprocess.run(["sh", "-n", "-c", command], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, (name, command, checked.stderr)
        assert "\n" not in command
        assert "None" not in command
        assert "Output" not in command


def test_a_context_with_odd_characters_stays_one_word(recorded: Record) -> None:
    context = CLUSTERS["openshift"][0]
    recording = recorded("openshift", registry="registry.example.com/team")
    for name, command in recording.outputs["port_forward_commands"].items():
        assert shlex.split(command)[:3] == ["oc", "--context", context], name


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ("kind", ["--stdin", "--tty", "--quiet", "--profile=sysadmin"]),
        # Its pods are privileged and interactive by themselves, and it has options of its own.
        ("openshift", ["--tty", "--quiet"]),
    ],
)
def test_a_node_is_debugged_with_the_options_that_the_client_has(
    environment: str, options: list[str], recorded: Record
) -> None:
    outputs = recorded(environment, registry="registry.example.com/team").outputs
    for name in ("bpftrace_command", "bcc_command"):
        words = shlex.split(outputs[name])
        after = words[words.index("debug") + 1 : words.index("--")]
        assert [word for word in after if word.startswith("--") and not word.startswith("--image=")] == options, name


@pytest.mark.parametrize(
    ("environment", "command"),
    [
        ("kind", "kind load docker-image {image} --name lab"),
        ("minikube", "minikube image load {image} --profile minikube"),
        ("generic", "docker save {image} | ssh NODE sudo ctr --namespace k8s.io images import -"),
    ],
)
def test_the_import_command_names_the_image_and_the_cluster(environment: str, command: str, recorded: Record) -> None:
    outputs = recorded(environment, registry="none").outputs
    assert outputs["import_command"] == command.format(image=outputs["image"])


@pytest.mark.parametrize("gadget", ["trace_malloc", "memleak"])
def test_commands_choose_the_pod_that_leaks_and_none_of_its_peers(gadget: str, recorded: Record) -> None:
    recording = recorded("kind", replicas=3, gadget=gadget)
    leaking = recording.the("Deployment", "leaker").inputs["spec"]["selector"]["matchLabels"]
    peers = recording.the("Deployment", "leaker-peers").inputs["spec"]["template"]["metadata"]["labels"]
    for name in ("gadget_command", "bpftrace_command", "bcc_command"):
        words = shlex.split(recording.outputs[name].replace("$(", " ").replace(")", " ").replace('"', " "))
        selectors = [dict(pair.split("=") for pair in after.split(",")) for word, after in pairwise(words)
                     if word == "--selector"]  # fmt: skip
        assert selectors, name
        for selector in selectors:
            assert selector.items() >= {**leaking}.items()
            assert not selector.items() <= peers.items(), name
    assert "deployment/leaker " in recording.outputs["verify_command"]
    for name in ("leaker", "metrics", "ledger"):
        assert " port-forward deployment/leaker " in recording.outputs["port_forward_commands"][name]


@pytest.mark.parametrize("there", ["usr/src", "usr"])
def test_the_nodes_kernel_files_have_their_own_names_in_the_pod(there: str, recorded: Record, tmp_path: Path) -> None:
    host, root = tmp_path / "host", tmp_path / "root"
    for folder in (host / "lib/modules/6.1", host / "usr/src/headers-6.1", root / "lib", root / there):
        folder.mkdir(parents=True)
    for _ in range(2):
        subprocess.run(["sh", "-c", commands.link_kernel_files(str(host), str(root))], check=True)
    assert (root / "lib/modules/6.1").is_dir()
    assert [path.name for path in (root / "usr/src").iterdir()] == ["headers-6.1"]
    assert (root / "usr/src/headers-6.1").is_dir()
    assert commands.link_kernel_files("/host") in recorded("kind").outputs["bcc_command"]


@pytest.mark.parametrize("name", ["verify_command", "learn_command"])
@pytest.mark.parametrize("status", [0, 3])
def test_a_command_beside_a_port_forward_ends_it_and_has_its_own_exit_status(
    name: str, status: int, recorded: Record, tmp_path: Path
) -> None:
    scripts = {
        "kubectl": f"case $* in *port-forward*) echo $$ >{tmp_path}/forward; exec /bin/sleep 60;; esac; echo the-pod",
        "memleak-lab": f'echo "$@" >{tmp_path}/asked; exit {status}',
        "sudo": 'exec "$@"',
        "sleep": f"while ! [ -s {tmp_path}/forward ]; do :; done",
    }
    for program, script in scripts.items():
        (tmp_path / program).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / program).chmod(0o755)
    line = recorded("kind").outputs[name] + "; code=$?; wait; exit $code"
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert subprocess.run(["sh", "-c", line], env=environ, check=False, timeout=30).returncode == status
    asked = "verify report.json" if name == "verify_command" else "learn --pod memleak-demo/the-pod/leaker"
    assert (tmp_path / "asked").read_text() == f"{asked}\n"
    assert not Path("/proc", (tmp_path / "forward").read_text().strip()).exists()


def test_forwarded_ports_are_those_of_the_urls_and_differ(recorded: Record) -> None:
    outputs = recorded("kind").outputs
    local = {name: command.split()[-1].split(":")[0] for name, command in outputs["port_forward_commands"].items()}
    assert set(local) == set(outputs["urls"]) == {"leaker", "metrics", "ledger", "prometheus", "grafana"}
    assert len(set(local.values())) == len(local)
    for name, url in outputs["urls"].items():
        assert f"127.0.0.1:{local[name]}" in url


def test_commands_follow_the_parts_that_are_declared(recorded: Record) -> None:
    assert set(recorded("kind", prometheus=False, grafana=False).outputs["urls"]) == {"leaker", "metrics", "ledger"}
    assert "gadget deploy" in recorded("kind", gadget="none").outputs["gadget_install_command"]
    assert "gadget deploy" not in recorded("kind").outputs["gadget_install_command"]


@pytest.mark.parametrize(
    ("environment", "settings", "image"),
    [
        ("kind", {}, "kind-registry:5000/memleak:v0.1.0"),
        ("minikube", {}, "registry.kube-system.svc.cluster.local/memleak:v0.1.0"),
        ("eks", {"registry": "dockerhub", "dockerhubUser": "me"}, "docker.io/me/memleak:v0.1.0"),
        ("kind", {"registry": "none", "gadgetImage": "reg:5000/x/memleak:v1"}, "reg:5000/x/memleak:v1"),
    ],
)
def test_the_labs_own_gadget_comes_from_where_pods_can_pull(
    environment: str, settings: dict[str, object], image: str, recorded: Record
) -> None:
    recording = recorded(environment, gadget="memleak", **settings)
    assert f" gadget run {image} " in recording.outputs["gadget_command"]
    (release,) = recording.of_type(RELEASE)
    oci = release.inputs["values"]["config"]["operator"]["oci"]
    assert oci["verify-image"] is False
    assert oci["allowed-gadgets"] == [image], "what nobody signed is this one, and nothing that is named alike"
    assert "public-keys" not in oci
    insecure = [image.partition("/")[0]] if "docker.io" not in image else None
    assert oci.get("insecure-registries") == insecure


@pytest.mark.parametrize(
    ("environment", "settings", "server"),
    [
        ("eks", {"registry": "registry.example.com/team"}, "registry.example.com"),
        ("eks", {"registry": "dockerhub", "dockerhubUser": "me"}, "https://index.docker.io/v1/"),
        ("kind", {}, "kind-registry:5000"),
    ],
)
def test_the_labs_own_gadget_is_pulled_with_the_registrys_login(
    environment: str, settings: dict[str, object], server: str, recorded: Record
) -> None:
    login = {"registryUsername": "robot", "registryPassword": "token"}
    recording = recorded(environment, gadget="memleak", **settings, **login)
    (release,) = recording.of_type(RELEASE)
    secret = recording.the("Secret", release.inputs["values"]["config"]["operator"]["oci"]["pull-secret"])
    assert (secret.namespace, secret.inputs["type"]) == ("gadget", "kubernetes.io/dockerconfigjson")
    auths = json.loads(secret.inputs["stringData"][".dockerconfigjson"])["auths"]
    assert auths.keys() == {server}
    assert (auths[server]["username"], auths[server]["password"]) == ("robot", "token")
    assert secret.urn in release.depends_on
    assert "token" not in text_of(release.inputs)


@pytest.mark.parametrize(
    "settings",
    [
        {"gadget": "trace_malloc", "registryUsername": "robot", "registryPassword": "token"},
        {"gadget": "memleak"},
        {
            "gadget": "memleak",
            "registryUsername": "robot",
            "registryPassword": "token",
            "gadgetImage": "elsewhere.example.com/memleak:v1",
        },
    ],
)
def test_no_other_gadget_and_no_other_registry_gets_the_login(settings: dict[str, object], recorded: Record) -> None:
    recording = recorded("eks", registry="registry.example.com/team", **settings)
    assert not [secret for secret in recording.of_kind("Secret") if secret.namespace == "gadget"]
    (release,) = recording.of_type(RELEASE)
    assert "pull-secret" not in release.inputs["values"]["config"]["operator"]["oci"]


def test_a_public_key_has_every_gadget_verified_the_stock_ones_by_their_own(recorded: Record, tmp_path: Path) -> None:
    subprocess.run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-out", tmp_path / "key"], check=True)
    made = subprocess.run(
        ["openssl", "ec", "-in", tmp_path / "key", "-pubout"], capture_output=True, text=True, check=True
    )
    (release,) = recorded("kind", gadget="memleak", gadgetPublicKey=made.stdout).of_type(RELEASE)
    oci = release.inputs["values"]["config"]["operator"]["oci"]
    assert oci["public-keys"] == [versions.GADGET_PUBLIC_KEY, made.stdout]
    assert not oci.keys() & {"verify-image", "allowed-gadgets"}, "the chart verifies unless it is told not to"


@pytest.mark.parametrize(("mirror", "named"), [("mirror:5000/lab", ["mirror:5000"]), ("mirror.example.com/lab", None)])
def test_a_mirror_without_tls_serves_the_stock_gadget_too(
    mirror: str, named: list[str] | None, recorded: Record
) -> None:
    (release,) = recorded("kind", mirror=mirror).of_type(RELEASE)
    assert release.inputs["values"]["config"]["operator"]["oci"].get("insecure-registries") == named


def test_stock_gadgets_stay_verified(recorded: Record) -> None:
    (release,) = recorded("kind").of_type(RELEASE)
    assert release.inputs["values"]["config"]["operator"]["oci"] == {}
