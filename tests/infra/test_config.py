"""Every setting: what it may be, and what follows from it. Nothing is declared before all are right."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from catalog_cache import RANGES

from infra.config import LabConfig
from infra.kubeconfig import Kubeconfig
from infra.service_env import leaker_variables
from infra.settings import DEFAULTS, ConfigError, Settings
from service.config import ServiceConfig
from tests.infra.conftest import CLUSTERS, KIND, read_config, write_kubeconfig
from tests.support.recording import PROJECT, Recording, record

if TYPE_CHECKING:
    from pathlib import Path

    from tests.infra.conftest import Record


def test_the_project_file_declares_every_key_with_its_default_and_a_description() -> None:
    declared = {key: str(entry["default"]).lower() for key, entry in PROJECT["config"].items()}
    assert declared == {key: value.lower() for key, value in DEFAULTS.items()}
    for key, entry in PROJECT["config"].items():
        assert entry["description"], key
        # Pulumi refuses a default that is not of the declared type.
        kinds = {"string": str, "integer": int, "boolean": bool}
        assert type(entry["default"]) is kinds[entry["type"]], key


def test_the_defaults_are_the_labs_story() -> None:
    config = read_config({})
    assert config.cluster
    assert (config.cluster.context, config.cluster.environment.name) == ("kind-lab", "kind")
    assert config.namespace == "memleak-demo"
    assert (config.leak.speed, config.leak.chunk_bytes, config.leak.cap_bytes) == (1, 65536, 2000 * 2**20)
    assert config.prometheus
    assert config.grafana
    assert not config.truth
    assert config.grafana_admin_password is None


def test_the_leak_of_the_stack_has_the_services_defaults_and_names() -> None:
    service = ServiceConfig()
    leak = read_config({}).leak
    assert leaker_variables(leak) == {
        name: value for name, value in service.environ().items() if name != "LAB_HOST"
    } | {"LAB_SPEED": "1", "LAB_MEMORY_LIMIT_BYTES": str(leak.memory_limit_bytes)}
    assert ServiceConfig.from_environ(leaker_variables(leak)) == replace(
        service, memory_limit_bytes=leak.memory_limit_bytes
    )


@pytest.mark.parametrize(
    ("key", "option", "unit"),
    [("speed", "speed", 1), ("chunkKiB", "chunk_bytes", 2**10), ("capMiB", "cap_bytes", 2**20)],
)
def test_the_leak_of_the_stack_has_the_ranges_of_the_leak_itself(key: str, option: str, unit: int) -> None:
    low, high, _ = RANGES[option]
    for end in (low, high):
        leak = read_config({key: f"{end / unit:g}"}).leak
        assert getattr(ServiceConfig.from_environ(leaker_variables(leak)), option) == end
    for outside in (low / unit - 0.01, high / unit + 1):
        with pytest.raises(ConfigError, match=f"{key} is '{outside}': it must be a (whole )?number from "):
            read_config({key: f"{outside}"})


@pytest.mark.parametrize(
    ("machine", "platform"),
    [("x86_64", "linux/amd64"), ("AMD64", "linux/amd64"), ("aarch64", "linux/arm64"), ("arm64", "linux/arm64")],
)
def test_without_a_choice_the_image_is_for_the_machine_that_builds_and_this_is_said(
    machine: str, platform: str
) -> None:
    for target in ("kubernetes", "docker"):
        assert LabConfig.read(Settings({"target": target}), KIND, machine).build.platform == platform


def test_a_machine_of_neither_platform_needs_a_choice() -> None:
    with pytest.raises(ConfigError, match=r"processor is 'riscv64'[^\n]*\n +pulumi config set platform linux/amd64"):
        LabConfig.read(Settings({}), KIND, "riscv64")
    assert LabConfig.read(Settings({"platform": "linux/arm64"}), KIND, "riscv64").build.platform == "linux/arm64"


@pytest.mark.parametrize("url", ["http://p:9090", "https://p", "http://[::1]:9090/path", "http://p:65535/a@b"])
def test_an_address_of_ones_own_prometheus_is_taken(url: str) -> None:
    assert read_config({"prometheusUrl": url, "prometheus": "false"}).prometheus_url == url


@pytest.mark.parametrize("environment", ["aks", "eks", "gke", "openshift"])
@pytest.mark.parametrize("registry", ["local", "none", "127.0.0.1:5000"])
def test_a_cluster_elsewhere_cannot_use_this_machines_images(environment: str, registry: str) -> None:
    context, server = CLUSTERS[environment]
    with pytest.raises(ConfigError, match=rf"{environment}.*\n    pulumi config set registry HOST"):
        read_config({"registry": registry}, Kubeconfig(context, {context: server}))


@pytest.mark.parametrize(("kind", "other"), [("gke-autopilot", "gke"), ("eks-fargate", "eks")])
def test_a_cluster_whose_nodes_run_no_ebpf_is_refused(kind: str, other: str) -> None:
    context, server = CLUSTERS[kind]
    remote = {"registry": "registry.example.com"}
    with pytest.raises(ConfigError, match=rf"is {kind}\. .*eBPF.*pulumi config set environment {other}"):
        read_config(remote, Kubeconfig(context, {context: server}))
    with pytest.raises(ConfigError, match=rf"is {kind}\. "):
        read_config({**remote, "environment": kind})
    taken = read_config({**remote, "environment": other}, Kubeconfig(context, {context: server}))
    assert taken.cluster
    assert taken.cluster.environment.name == other


@pytest.mark.parametrize("environment", sorted(CLUSTERS))
def test_a_kubeconfig_tells_the_kind_of_cluster(environment: str, tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "config", *CLUSTERS[environment])
    kubeconfig = Kubeconfig.read({"KUBECONFIG": str(path)}, tmp_path)
    try:
        cluster = read_config({"registry": "registry.example.com"}, kubeconfig).cluster
    except ConfigError as refused:
        assert f"is {environment}. " in str(refused)  # noqa: PT017 - either outcome names the kind
    else:
        assert cluster
        assert cluster.environment.name == environment


def test_without_a_cluster_the_error_offers_docker(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no current context.*\n.*\n    pulumi config set target docker"):
        read_config({}, Kubeconfig.read({}, tmp_path))
    assert read_config({"target": "docker"}, Kubeconfig.read({}, tmp_path)).cluster is None


@pytest.mark.parametrize("text", ["a: [", "contexts: [{name: a}]", "contexts: 7", "- 1"])
def test_a_kubeconfig_that_cannot_be_read_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(text)
    kubeconfig = Kubeconfig.read({"KUBECONFIG": str(tmp_path / "config")}, tmp_path)
    with pytest.raises(ConfigError, match=rf"the kubeconfig {tmp_path}/config cannot be read"):
        read_config({}, kubeconfig)
    assert read_config({"target": "docker"}, kubeconfig).cluster is None


def test_several_kubeconfigs_are_refused_with_the_way_to_merge_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kubectl config view --flatten"):
        read_config({}, Kubeconfig.read({"KUBECONFIG": f"{tmp_path}/one:{tmp_path}/two"}, tmp_path))


def test_nothing_is_declared_before_the_configuration_is_right(tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "config", *CLUSTERS["kind"])
    recording = Recording()
    with pytest.raises(ConfigError, match="speed is '0'"):
        record({"speed": 0}, kubeconfig=kubeconfig, directory=tmp_path, into=recording)
    assert recording.declared == []
    record({"speed": 1}, kubeconfig=kubeconfig, directory=tmp_path, into=recording)
    assert recording.declared


def test_the_providers_use_the_context_by_name(recorded: Record) -> None:
    (cluster,) = recorded("aks", registry="registry.example.com").of_type("pulumi:providers:kubernetes")
    assert cluster.inputs["context"] == CLUSTERS["aks"][0]
    assert cluster.inputs["clusterIdentifier"] == CLUSTERS["aks"][0], "another context replaces the provider"
    assert re.fullmatch("true", cluster.inputs["enableConfigMapMutable"])
