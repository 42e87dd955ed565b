"""Wrong settings: what each is told, all at once, with the line to type and without a secret."""

from __future__ import annotations

import pytest

from infra.settings import SECRETS, ConfigError
from tests.infra.conftest import read_config

OFFERED = "auto, kind, minikube, docker-desktop, aks, eks, gke, openshift, generic"
WRONG = [
    ({"target": "dockr"}, "target is 'dockr'", "pulumi config set target docker"),
    (
        {"environment": "minkube"},
        f"environment is 'minkube': it must be one of {OFFERED}:",
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
def test_a_wrong_setting_is_named_with_the_line_that_fixes_it(
    settings: dict[str, str], error: str, command: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config(settings)
    assert error in str(raised.value)
    assert command in str(raised.value)
    assert str(raised.value).count("\n\n") == 1, "one setting, one error"
    assert "ter2" not in str(raised.value)


def test_every_error_comes_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        read_config({"speed": "0", "chunkKiB": "3", "spede": "1"})
    for name in ("speed is '0'", "chunkKiB is '3'", "spede is no setting"):
        assert name in str(raised.value)


@pytest.mark.parametrize("key", sorted(SECRETS))
def test_a_secret_in_plain_text_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config({key: "hunter2", "registryUsername": "me"}, secrets=frozenset())
    assert f"pulumi config set --secret {key}" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert "hunter2" not in repr(read_config({key: "hunter2", "registryUsername": "me"}))


@pytest.mark.parametrize("misspelt", ["grafanaAdminPasword", "grafanaAdminPassword2"])
def test_a_misspelt_secret_is_not_repeated(misspelt: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config({misspelt: "hunter2"})
    assert "pulumi config set grafanaAdminPassword VALUE" in str(raised.value)
    assert "hunter2" not in str(raised.value)
