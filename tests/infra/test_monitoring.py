"""Prometheus and Grafana: whom they read, what they keep, and who may log in."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from grafana import rules
from grafana.vocabulary import GADGET_LABELS
from infra.config import HEADROOM_MIB, MIB
from tests.infra.cases import PASSWORD

if TYPE_CHECKING:
    from tests.infra.conftest import Record
    from tests.support.recording import Recording


def _prometheus_files(recording: Recording) -> dict[str, str]:
    """The files of Prometheus' folder, from the ConfigMap or from the container's mount."""
    if recording.of_kind("ConfigMap"):
        return dict(recording.the("ConfigMap", "prometheus").inputs["data"])
    (container,) = [one for one in recording.of_type("docker:index/container:Container") if one.name == "prometheus"]
    (mount,) = container.inputs["mounts"]
    return {path.name: path.read_text() for path in Path(mount["source"]).iterdir()}


def _jobs(recording: Recording) -> dict[str, dict[str, Any]]:
    text = recording.the("ConfigMap", "prometheus").inputs["data"]["prometheus.yml"]
    return {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}


def _container(recording: Recording, name: str) -> dict[str, Any]:
    (container,) = recording.the("Deployment", name).inputs["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_the_gadget_is_scraped_where_it_is_declared(recorded: Record) -> None:
    with_gadget, without = _jobs(recorded("kind")), _jobs(recorded("kind", gadget="none"))
    assert with_gadget.keys() - without.keys() == {"gadget"}
    (discovery,) = with_gadget["gadget"]["kubernetes_sd_configs"]
    assert discovery["namespaces"] == {"names": ["gadget"]}
    (address, _) = with_gadget["gadget"]["relabel_configs"]
    assert address["replacement"] == "$1:2224"


def test_what_the_gadget_says_of_a_series_is_kept(recorded: Record) -> None:
    job = _jobs(recorded("kind"))["gadget"]
    # Labels of the target would push the gadget's own aside, under exported_ names.
    given = {step["target_label"] for step in job["relabel_configs"]} - {"__address__"}
    assert not given & set(GADGET_LABELS)
    assert "metric_relabel_configs" not in job


@pytest.mark.parametrize("target", ["kubernetes", "docker"])
def test_prometheus_reads_the_rules_at_the_pace_and_the_limit_of_this_leak(target: str, recorded: Record) -> None:
    settings = {"target": target, "speed": 60, "capMiB": 300, "truth": True}
    files = _prometheus_files(recorded("kind", **settings))
    document = yaml.safe_load(files.pop("prometheus.yml"))
    assert document["rule_files"] == sorted(files)
    assert files == rules(truth=True, speed=60, memory_limit_bytes=(300 + HEADROOM_MIB) * MIB)
    assert document["global"] == {"scrape_interval": "1s", "scrape_timeout": "1s"}
    plain = _prometheus_files(recorded("kind", **{**settings, "truth": False, "speed": 1}))
    assert yaml.safe_load(plain["prometheus.yml"])["global"]["scrape_interval"] == "5s"
    assert "kernel.rules.yml" not in plain


def test_grafana_knows_how_often_prometheus_looks(recorded: Record) -> None:
    data = recorded("kind", speed=60).the("ConfigMap", "grafana").inputs["data"]
    (source,) = yaml.safe_load(data["datasources-prometheus.yaml"])["datasources"]
    assert source["jsonData"]["timeInterval"] == "1s"


def test_pods_are_looked_for_only_where_a_role_allows_it(recorded: Record) -> None:
    recording = recorded("kind", namespace="elsewhere")
    allowed = {one.namespace for one in recording.of_kind("Role")}
    for job in _jobs(recording).values():
        for discovery in job["kubernetes_sd_configs"]:
            if discovery["role"] == "pod":
                assert set(discovery["namespaces"]["names"]) <= allowed
    assert allowed == {"elsewhere", "gadget"}


def test_two_labs_in_one_cluster_share_no_cluster_role(recorded: Record) -> None:
    names = [
        {one.object_name for one in recorded("kind", **settings).of_kind("ClusterRole", "ClusterRoleBinding")}
        for settings in ({}, {"namespace": "elsewhere"})
    ]
    assert names == [{"memleak-demo-prometheus"}, {"elsewhere-prometheus"}]


def test_kubelets_are_read_with_the_least_right_there_is(recorded: Record) -> None:
    recording = recorded("kind")
    (role,) = recording.of_kind("ClusterRole")
    assert role.inputs["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
    ]
    for name in ("cadvisor", "probes"):
        job = _jobs(recording)[name]
        assert job["scheme"] == "https"
        assert job["track_timestamps_staleness"], "else a killed container's last figure is shown for five minutes"
        keep = [step for step in job["metric_relabel_configs"] if step["source_labels"] == ["namespace"]]
        assert [(step["action"], step["regex"]) for step in keep] == [("keep", "memleak-demo")]


def test_what_prometheus_keeps_fits_its_volume(recorded: Record) -> None:
    recording = recorded("kind")
    options = dict(argument.split("=", 1) for argument in _container(recording, "prometheus")["args"])
    assert options["--storage.tsdb.retention.size"] == "256MB"
    assert options["--storage.tsdb.retention.time"] == "12h"
    pod = recording.the("Deployment", "prometheus").inputs["spec"]["template"]["spec"]
    (data,) = [volume for volume in pod["volumes"] if "emptyDir" in volume]
    assert data["emptyDir"]["sizeLimit"] == "1Gi"


def test_grafana_can_be_seen_by_all_and_changed_by_none(recorded: Record) -> None:
    variables = {one["name"]: one.get("value") for one in _container(recorded("kind"), "grafana")["env"]}
    assert variables["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    for name in ("GF_AUTH_ANONYMOUS_ENABLED", "GF_AUTH_DISABLE_LOGIN_FORM", "GF_PLUGINS_PREINSTALL_DISABLED"):
        assert variables[name] == "true"
    assert variables["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert variables["GF_AUTH_BASIC_ENABLED"] == "false"
    assert not recorded("kind").of_kind("Secret")


def test_a_password_makes_an_admin_and_a_new_one_rolls_the_pod(recorded: Record) -> None:
    recording = recorded("kind", grafanaAdminPassword=PASSWORD)
    variables = {one["name"]: one for one in _container(recording, "grafana")["env"]}
    assert variables["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"]["value"] == "false"
    assert variables["GF_AUTH_DISABLE_LOGIN_FORM"]["value"] == "false"
    assert variables["GF_SECURITY_ADMIN_USER"]["value"] == "admin"
    (secret,) = recording.of_kind("Secret")
    # Without a name of its own, so that a changed password is a new object under a new name.
    assert "name" not in secret.inputs["metadata"]
    reference = variables["GF_SECURITY_ADMIN_PASSWORD"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": secret.object_name, "key": "password"}


def test_grafana_asks_the_prometheus_that_there_is(recorded: Record) -> None:
    def url(**settings: object) -> str:
        data = recorded("kind", **settings).the("ConfigMap", "grafana").inputs["data"]
        document = yaml.safe_load(data["datasources-prometheus.yaml"])
        return str(document["datasources"][0]["url"])

    assert url() == "http://prometheus:9090"
    assert url(prometheus=False, prometheusUrl="https://prometheus.example.com/") == "https://prometheus.example.com/"


def test_nodes_that_cannot_run_the_image_are_not_chosen(recorded: Record) -> None:
    def nodes(environment: str, **settings: object) -> dict[str, str]:
        recording = recorded(environment, **settings)
        selector = recording.the("Deployment", "leaker").inputs["spec"]["template"]["spec"]["nodeSelector"]
        return dict(selector)

    # Where the nodes' usual platform is not known the image is built for this machine's.
    here = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    assert nodes("kind") == {"kubernetes.io/os": "linux", "kubernetes.io/arch": here}
    registry = "registry.example.com/team"
    assert nodes("aks", registry=registry) == {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    assert nodes("aks", registry=registry, platform="linux/arm64")["kubernetes.io/arch"] == "arm64"
