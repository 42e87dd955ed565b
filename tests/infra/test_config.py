"""Every setting: what it may be, and what a wrong one is told. Nothing is declared before all are right."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from catalog_cache import RANGES

from infra.config import LabConfig
from infra.kubeconfig import Kubeconfig
from infra.service_env import leaker_variables
from infra.settings import DEFAULTS, SECRETS, ConfigError, Settings
from service.config import ServiceConfig
from tests.infra.conftest import CLUSTERS, write_kubeconfig
from tests.support.recording import PROJECT, Recording, record

if TYPE_CHECKING:
    from pathlib import Path

    from tests.infra.conftest import Record

KIND = Kubeconfig("kind-lab", {"kind-lab": "https://127.0.0.1:1", "prod": "https://192.0.2.1:6443"})
SECRET_SET = frozenset(SECRETS)


def _read(settings: dict[str, str], kubeconfig: Kubeconfig = KIND, secrets: frozenset[str] = SECRET_SET) -> LabConfig:
    return LabConfig.read(Settings(settings, secrets), kubeconfig)


def test_the_project_file_declares_every_key_with_its_default_and_a_description() -> None:
    declared = {key: str(entry["default"]).lower() for key, entry in PROJECT["config"].items()}
    assert declared == {key: value.lower() for key, value in DEFAULTS.items()}
    for key, entry in PROJECT["config"].items():
        assert entry["description"], key
        # Pulumi refuses a default that is not of the declared type.
        kinds = {"string": str, "integer": int, "boolean": bool}
        assert type(entry["default"]) is kinds[entry["type"]], key


def test_the_defaults_are_the_labs_story() -> None:
    config = _read({})
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
    leak = _read({}).leak
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
        leak = _read({key: f"{end / unit:g}"}).leak
        assert getattr(ServiceConfig.from_environ(leaker_variables(leak)), option) == end
    for outside in (low / unit - 0.01, high / unit + 1):
        with pytest.raises(ConfigError, match=f"{key} is '{outside}': it must be a (whole )?number from "):
            _read({key: f"{outside}"})


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


WRONG = [
    ({"target": "dockr"}, "target is 'dockr'", "pulumi config set target docker"),
    (
        {"environment": "minkube"},
        "environment is 'minkube': it must be one of auto, kind, minikube, docker-desktop, aks, eks, gke, openshift, "
        "generic:",
        "pulumi config set environment minikube",
    ),
    ({"environment": "gke-autopilo"}, "environment is 'gke-autopilo'", "pulumi config set environment auto"),
    ({"context": "kind-labs"}, "context is 'kind-labs'", "pulumi config set context CONTEXT"),
    (
        {"nodeNetworks": "192.0.2.10/24"},
        "nodeNetworks has '192.0.2.10/24', which is no network: 192.0.2.10/24 has host bits set",
        "pulumi config set nodeNetworks ",
    ),
    (
        {"namespace": "Memleak_Demo"},
        "'Memleak_Demo': it must have the form of memleak-demo:",
        "pulumi config set namespace memleak-demo",
    ),
    ({"namespace": "kube-system"}, "namespace is 'kube-system'", "pulumi config set namespace memleak-demo"),
    ({"registry": "dockrhub"}, "registry is 'dockrhub'", "pulumi config set registry dockerhub"),
    ({"registry": "dockerhub"}, "registry is dockerhub", "pulumi config set dockerhubUser ACCOUNT"),
    (
        {"localRegistry": "local host"},
        "localRegistry is 'local host': it must have the form of localhost:5001:",
        "pulumi config set localRegistry localhost:5001",
    ),
    ({"pullRegistry": "http://reg:5000"}, "pullRegistry", "pulumi config set pullRegistry registry.example.com"),
    ({"imageName": "memleak:1"}, "imageName is 'memleak:1'", "pulumi config set imageName memleak-demo"),
    ({"baseImage": "-x"}, "baseImage is '-x'", "pulumi config set baseImage python:3.13-slim-trixie"),
    ({"buildNetwork": "host net"}, "buildNetwork", "pulumi config set buildNetwork host"),
    (
        {"platform": "amd64"},
        "'amd64': it must be one of linux/amd64, linux/arm64:",
        "pulumi config set platform linux/amd64",
    ),
    ({"mirror": "mirror"}, "mirror is 'mirror'", "pulumi config set mirror mirror.example.com"),
    ({"speed": "0"}, "speed is '0': it must be a number from 0.1 to 1000", "pulumi config set speed 1"),
    ({"speed": "nan"}, "speed is 'nan'", "pulumi config set speed 1"),
    ({"speed": "fast"}, "speed is 'fast'", "pulumi config set speed 1"),
    ({"chunkKiB": "3"}, "chunkKiB is '3'", "pulumi config set chunkKiB 64"),
    ({"chunkKiB": "48"}, "chunkKiB is 48: blocks must divide 1024", "pulumi config set chunkKiB 32"),
    (
        {"chunkKiB": "64.5"},
        "chunkKiB is 64.5: it must be a whole number from 4 to 1024 KiB:",
        "pulumi config set chunkKiB 64",
    ),
    (
        {"capMiB": "65537"},
        "capMiB is '65537': it must be a whole number from 0 to 65536 MiB:",
        "pulumi config set capMiB 2000",
    ),
    ({"capMiB": "-1"}, "capMiB is '-1'", "pulumi config set capMiB 2000"),
    (
        {"memoryLimitMiB": "2511"},
        "memoryLimitMiB is 2511, and with capMiB 2000 the kernel would kill",
        "pulumi config set memoryLimitMiB 2512",
    ),
    ({"memoryLimitMiB": "600", "capMiB": "300"}, "memoryLimitMiB is 600", "pulumi config set capMiB 88 "),
    ({"replicas": "0"}, "replicas is '0': it must be a whole number from 1 to 100", "pulumi config set replicas 1"),
    ({"replicas": "10", "target": "docker"}, "replicas is 10 and target is docker", "pulumi config rm replicas"),
    ({"prometheus": "yes"}, "prometheus is 'yes'", "pulumi config set prometheus true"),
    ({"prometheus": "false"}, "Grafana has nothing to ask", "pulumi config set prometheusUrl http://HOST:9090"),
    ({"prometheusUrl": "http://p:9090"}, "while the lab declares its own", "pulumi config set prometheus false"),
    *(
        (
            {"prometheusUrl": url, "prometheus": "false"},
            f"prometheusUrl is '{url}': it must have the form of http://HOST:PORT, with a port from 1 to 65535:",
            "pulumi config set prometheusUrl http://HOST:9090",
        )
        for url in ("p:9090", "http://", "http://:9090", "http://p:http", "http://p:99999", "http://p:0", "http://[::1")
    ),
    *(
        (
            {"prometheusUrl": url, "prometheus": "false"},
            "prometheusUrl has a login",
            "set prometheusUrl http://HOST:9090",
        )
        for url in ("http://user:hunter2@p:9090", "http://user:hun/ter2@p", "user:hunter2@p", "http://hunter2@[::1")
    ),
    ({"gadget": "memlek"}, "gadget is 'memlek'", "pulumi config set gadget memleak"),
    (
        {"gadget": "memleak", "registry": "none"},
        "Inspektor Gadget pulls its gadgets from a registry",
        "pulumi config set gadgetImage HOST/PATH/memleak:TAG",
    ),
    ({"gadgetImage": "a b"}, "gadgetImage is 'a b'", "pulumi config set gadgetImage"),
    ({"truth": "maybe"}, "truth is 'maybe'", "pulumi config set truth false"),
    ({"registryPassword": "x"}, "registryPassword has no account", "pulumi config set registryUsername ACCOUNT"),
    (
        {"grafanaAdminPassword": "x", "grafana": "false"},
        "grafanaAdminPassword is set while grafana is false",
        "pulumi config rm grafanaAdminPassword",
    ),
    ({"spede": "60"}, "spede is no setting", "pulumi config set speed 60"),
    ({"Registry": "none"}, "Registry is no setting", "pulumi config set registry none"),
    ({"zzz": "1"}, "zzz is no setting", "pulumi config rm zzz"),
]


@pytest.mark.parametrize(("settings", "error", "command"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_setting_is_named_with_the_line_that_mends_it(
    settings: dict[str, str], error: str, command: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        _read(settings)
    assert error in str(raised.value)
    assert command in str(raised.value)
    assert str(raised.value).count("\n\n") == 1, "one setting, one error"
    assert "ter2" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://p:9090", "https://p", "http://[::1]:9090/path", "http://p:65535/a@b"])
def test_an_address_of_ones_own_prometheus_is_taken(url: str) -> None:
    assert _read({"prometheusUrl": url, "prometheus": "false"}).prometheus_url == url


def test_every_complaint_comes_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        _read({"speed": "0", "chunkKiB": "3", "spede": "1"})
    for name in ("speed is '0'", "chunkKiB is '3'", "spede is no setting"):
        assert name in str(raised.value)


@pytest.mark.parametrize("key", sorted(SECRETS))
def test_a_secret_in_plain_text_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        _read({key: "hunter2", "registryUsername": "me"}, secrets=frozenset())
    assert f"pulumi config set --secret {key}" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert "hunter2" not in repr(_read({key: "hunter2", "registryUsername": "me"}))


@pytest.mark.parametrize("misspelt", ["grafanaAdminPasword", "grafanaAdminPassword2"])
def test_a_misspelt_secret_is_not_repeated(misspelt: str) -> None:
    with pytest.raises(ConfigError) as raised:
        _read({misspelt: "hunter2"})
    assert "pulumi config set grafanaAdminPassword VALUE" in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("environment", ["aks", "eks", "gke", "openshift"])
@pytest.mark.parametrize("registry", ["local", "none", "127.0.0.1:5000"])
def test_a_cluster_elsewhere_cannot_use_this_machines_images(environment: str, registry: str) -> None:
    context, server = CLUSTERS[environment]
    with pytest.raises(ConfigError, match=rf"{environment}.*\n    pulumi config set registry HOST"):
        _read({"registry": registry}, Kubeconfig(context, {context: server}))


@pytest.mark.parametrize(("kind", "other"), [("gke-autopilot", "gke"), ("eks-fargate", "eks")])
def test_a_cluster_whose_nodes_run_no_ebpf_is_refused(kind: str, other: str) -> None:
    context, server = CLUSTERS[kind]
    remote = {"registry": "registry.example.com"}
    with pytest.raises(ConfigError, match=rf"is {kind}\. .*eBPF.*pulumi config set environment {other}"):
        _read(remote, Kubeconfig(context, {context: server}))
    with pytest.raises(ConfigError, match=rf"is {kind}\. "):
        _read({**remote, "environment": kind})
    taken = _read({**remote, "environment": other}, Kubeconfig(context, {context: server}))
    assert taken.cluster
    assert taken.cluster.environment.name == other


@pytest.mark.parametrize("environment", sorted(CLUSTERS))
def test_a_kubeconfig_tells_the_kind_of_cluster(environment: str, tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "config", *CLUSTERS[environment])
    kubeconfig = Kubeconfig.read({"KUBECONFIG": str(path)}, tmp_path)
    try:
        cluster = _read({"registry": "registry.example.com"}, kubeconfig).cluster
    except ConfigError as refused:
        assert f"is {environment}. " in str(refused)  # noqa: PT017 - either outcome names the kind
    else:
        assert cluster
        assert cluster.environment.name == environment


def test_without_a_cluster_the_error_offers_docker(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no current context.*\n.*\n    pulumi config set target docker"):
        _read({}, Kubeconfig.read({}, tmp_path))
    assert _read({"target": "docker"}, Kubeconfig.read({}, tmp_path)).cluster is None


@pytest.mark.parametrize("text", ["a: [", "contexts: [{name: a}]", "contexts: 7", "- 1"])
def test_a_kubeconfig_that_cannot_be_read_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(text)
    kubeconfig = Kubeconfig.read({"KUBECONFIG": str(tmp_path / "config")}, tmp_path)
    with pytest.raises(ConfigError, match=rf"the kubeconfig {tmp_path}/config cannot be read"):
        _read({}, kubeconfig)
    assert _read({"target": "docker"}, kubeconfig).cluster is None


def test_several_kubeconfigs_are_refused_with_the_way_to_merge_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kubectl config view --flatten"):
        _read({}, Kubeconfig.read({"KUBECONFIG": f"{tmp_path}/one:{tmp_path}/two"}, tmp_path))


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
