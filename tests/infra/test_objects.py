"""What holds for every resource of every configuration: schema, names, family, references, pins and secrets."""

from __future__ import annotations

import base64
import functools
import json
import re
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest

from infra.pods import THIRD_PARTY_USER
from infra.service_env import SERVICE_USER
from tests.infra.cases import ALL, IN_CLUSTER, MIRROR, PASSWORD, Case
from tests.support.recording import ROOT, SECRET_SIGNATURE, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.infra.conftest import Record
    from tests.support.recording import Declared, Recording

in_every_cluster = pytest.mark.parametrize("case", IN_CLUSTER, ids=str)
everywhere = pytest.mark.parametrize("case", ALL, ids=str)

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
CLUSTER_SCOPED = {"Namespace", "ClusterRole", "ClusterRoleBinding"}
# The oldest that is supported, and the newest that the validator knows.
KUBERNETES = ("1.32", "1.37")


@functools.cache
def _validate(document: str, version: str) -> None:
    kubernetes_validate.validate(json.loads(document), version, strict=True)


@in_every_cluster
def test_objects_are_valid_to_the_letter(case: Case, recorded: Record) -> None:
    for one in recorded(case.environment, **case.settings).objects:
        for version in KUBERNETES:
            _validate(text_of(one.inputs), version)


def test_the_validator_refuses_a_misspelt_field(recorded: Record) -> None:
    deployment = json.loads(text_of(recorded("kind").the("Deployment", "leaker").inputs))
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolici"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePullPolici"):
        _validate(text_of(deployment), KUBERNETES[0])


@in_every_cluster
def test_names_are_legal_and_unique(case: Case, recorded: Record) -> None:
    objects = recorded(case.environment, **case.settings).objects
    names = [(one.kind, one.namespace, one.object_name) for one in objects]
    assert len(names) == len(set(names))
    for one in objects:
        assert NAME.fullmatch(one.object_name), one.object_name
        for key, value in one.inputs["metadata"].get("labels", {}).items():
            assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value), (one.urn, key, value)


@everywhere
def test_every_resource_has_a_component_above_it_and_a_provider_of_this_program(case: Case, recorded: Record) -> None:
    recording = recorded(case.environment, **case.settings)
    for one in recording.declared:
        if one.type.startswith("pulumi:providers:"):
            continue
        provider, package = one.provider.rpartition("::")[0], one.type.partition(":")[0]
        if one.custom:
            assert recording.by_urn(one.parent).type.startswith("memleak-lab:infra:"), one.urn
            assert recording.by_urn(provider).type == f"pulumi:providers:{package}", one.urn
        else:
            assert one.type.startswith("memleak-lab:infra:"), one.urn
            assert "pulumi:pulumi:Stack" in one.parent


@in_every_cluster
def test_namespaces_are_declared_and_take_along_what_is_in_them_and_nothing_else(case: Case, recorded: Record) -> None:
    recording = recorded(case.environment, **case.settings)
    spaces = {one.object_name: one.urn for one in recording.of_kind("Namespace")}
    for one in recording.objects:
        if one.kind in CLUSTER_SCOPED:
            # Deleted with a namespace, it would stay: a namespace takes only what it contains.
            assert not one.deleted_with, one.urn
        else:
            assert one.deleted_with == spaces[one.namespace], one.urn
            assert spaces[one.namespace] in one.depends_on, one.urn
    for release in recording.of_type("kubernetes:helm.sh/v3:Release"):
        assert not release.deleted_with, "a Release deleted with its namespace leaves its cluster roles behind"
        assert spaces[release.inputs["namespace"]] in release.depends_on


@in_every_cluster
def test_pods_run_as_restricted_as_the_namespace_demands(case: Case, recorded: Record) -> None:
    recording = recorded(case.environment, **case.settings)
    for namespace in recording.of_kind("Namespace"):
        profile = "privileged" if namespace.object_name == "gadget" else "restricted"
        for mode in ("enforce", "audit", "warn"):
            assert namespace.inputs["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == profile
    for deployment in recording.of_kind("Deployment"):
        pod = _pod(deployment)
        number = 65534 if deployment.object_name in {"prometheus", "grafana"} else 10001
        chosen = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), number)
        user = {} if case.environment == "openshift" else chosen
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            **user,
        }
        assert pod["automountServiceAccountToken"] is (deployment.object_name == "prometheus")
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@everywhere
def test_images_are_pinned(case: Case, recorded: Record) -> None:
    recording = recorded(case.environment, **case.settings)
    images = [container["image"] for one in recording.of_kind("Deployment") for container in _pod(one)["containers"]]
    images += [one.inputs["name"] for one in recording.of_type("docker:index/remoteImage:RemoteImage")]
    images += [one.inputs["imageName"] for one in recording.of_type("docker:index/image:Image")]
    images += [one.inputs["metadata"]["annotations"]["gadgetImage"] for one in _instances(recording)]
    for image in images:
        name, _, digest = image.partition("@sha256:")
        tag = name.rpartition("/")[2].partition(":")[2]
        assert re.fullmatch(r"[0-9a-f]{64}", digest) or (tag and tag != "latest"), image
    for release in recording.of_type("kubernetes:helm.sh/v3:Release"):
        assert re.fullmatch(r"\d+\.\d+\.\d+", release.inputs["version"])


@pytest.mark.parametrize("target", ["kubernetes", "docker"])
def test_a_mirror_serves_everything_that_is_not_built_here(target: str, recorded: Record) -> None:
    recording = recorded("kind", target=target, mirror=MIRROR)
    text = text_of([one.inputs for one in recording.declared]) + text_of(recording.outputs)
    for pattern in (r"docker\.io/\S+", r"ghcr\.io/[\w/.-]+", r"\bpython:3\S+", r"quay\.io/\S+"):
        for found in re.finditer(pattern, text):
            assert text[: found.start()].endswith((f"{MIRROR}/", f"{MIRROR}/library/")), found.group()
    assert f"{MIRROR}/library/python:3.13-slim-trixie" in text
    assert f"{MIRROR}/prom/prometheus:v" in text


@in_every_cluster
def test_selectors_and_ports_meet_pods(case: Case, recorded: Record) -> None:
    recording = recorded(case.environment, **case.settings)
    templates = {one.object_name: one.inputs["spec"]["template"] for one in recording.of_kind("Deployment")}
    labels = {name: template["metadata"]["labels"] for name, template in templates.items()}
    for deployment in recording.of_kind("Deployment"):
        selector = deployment.inputs["spec"]["selector"]["matchLabels"]
        assert [name for name in labels if selector.items() <= labels[name].items()] == [deployment.object_name]
        for container in _pod(deployment)["containers"]:
            named = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe in container:
                    assert container[probe]["httpGet"]["port"] in named
    for service in recording.of_kind("Service"):
        selector = service.inputs["spec"]["selector"]
        reached = [name for name in labels if selector.items() <= labels[name].items()]
        assert {name.removesuffix("-peers") for name in reached} == {service.object_name.removesuffix("-headless")}
        for (container,) in (templates[name]["spec"]["containers"] for name in reached):
            named = {port["name"]: port["containerPort"] for port in container["ports"]}
            for port in service.inputs["spec"]["ports"]:
                assert named[port["targetPort"]] == port["port"]
    for policy in recording.of_kind("NetworkPolicy"):
        selector = policy.inputs["spec"]["podSelector"].get("matchLabels", {})
        assert policy.object_name in {"deny-all", "gadget"} or selector == {
            "app.kubernetes.io/name": policy.object_name
        }
        assert any(selector.items() <= found.items() for found in labels.values())


@in_every_cluster
def test_volumes_and_variables_lead_to_what_is_declared(case: Case, recorded: Record) -> None:
    recording = recorded(case.environment, **case.settings)
    for deployment in recording.of_kind("Deployment"):
        pod = _pod(deployment)
        volumes = pod.get("volumes", [])
        for volume in (volume["configMap"] for volume in volumes if "configMap" in volume):
            config_map = recording.the("ConfigMap", volume["name"])
            assert config_map.namespace == deployment.namespace
            assert config_map.urn in deployment.depends_on
            assert {item["key"] for item in volume.get("items", [])} <= config_map.inputs["data"].keys()
        for container in pod["containers"]:
            mounted = [mount["name"] for mount in container.get("volumeMounts", [])]
            assert sorted(mounted) == sorted(volume["name"] for volume in volumes)
            for variable in (variable for variable in container.get("env", []) if "valueFrom" in variable):
                reference = variable["valueFrom"]["secretKeyRef"]
                assert reference["key"] in recording.the("Secret", reference["name"]).inputs["stringData"]


@in_every_cluster
def test_accounts_roles_and_pull_secrets_are_declared(case: Case, recorded: Record) -> None:
    recording = recorded(case.environment, **case.settings)
    declared = {(one.kind, one.namespace, one.object_name): one for one in recording.objects}
    for deployment in recording.of_kind("Deployment"):
        pod, space = _pod(deployment), deployment.namespace
        if "serviceAccountName" in pod:
            assert ("ServiceAccount", space, pod["serviceAccountName"]) in declared
        for secret in pod.get("imagePullSecrets", []):
            assert declared["Secret", space, secret["name"]].inputs["type"] == "kubernetes.io/dockerconfigjson"
    for binding in recording.of_kind("RoleBinding", "ClusterRoleBinding"):
        role = binding.inputs["roleRef"]
        assert (role["kind"], binding.namespace, role["name"]) in declared
        for subject in binding.inputs["subjects"]:
            assert (subject["kind"], subject["namespace"], subject["name"]) in declared


@in_every_cluster
def test_workloads_start_after_their_fence_is_up(case: Case, recorded: Record) -> None:
    recording = recorded(case.environment, **case.settings)
    closed = recording.the("NetworkPolicy", "deny-all").urn
    for deployment in recording.of_kind("Deployment"):
        own = recording.the("NetworkPolicy", deployment.object_name.removesuffix("-peers")).urn
        assert {closed, own} <= set(deployment.depends_on)


@pytest.mark.parametrize("case", [case for case in ALL if PASSWORD in case.settings.values()], ids=str)
def test_a_password_is_never_in_the_clear(case: Case, recorded: Record) -> None:
    recording = recorded(case.environment, **case.settings)
    login = base64.b64encode(f"someone:{PASSWORD}".encode()).decode()
    assert PASSWORD in text_of([one.wire for one in recording.declared]), "the case must use the password"
    for one in recording.declared:
        in_the_clear = text_of(_without_secrets(one.wire))
        assert PASSWORD not in in_the_clear, one.urn
        assert login not in in_the_clear, one.urn
    assert PASSWORD not in text_of(recording.wire_outputs)
    assert PASSWORD not in "".join(recording.logged)


@pytest.mark.parametrize("case", [Case("kind"), IN_CLUSTER[-1], ALL[-1]], ids=str)
def test_two_runs_declare_the_same(case: Case, recorded: Record, recorded_afresh: Record) -> None:
    first = recorded(case.environment, **case.settings)
    second = recorded_afresh(case.environment, **case.settings)
    assert first.comparable() == second.comparable()


def test_the_image_and_whoever_runs_it_agree_on_the_services_user() -> None:
    (user,) = re.findall(r"^USER (.*)$", (ROOT / "service" / "Dockerfile").read_text(), re.MULTILINE)
    assert user == f"{SERVICE_USER}:{SERVICE_USER}"
    assert SERVICE_USER != THIRD_PARTY_USER


def _pod(deployment: Declared) -> dict[str, Any]:
    pod: dict[str, Any] = deployment.inputs["spec"]["template"]["spec"]
    return pod


def _instances(recording: Recording) -> Iterator[Declared]:
    for one in recording.of_kind("ConfigMap"):
        if one.inputs["metadata"].get("labels", {}).get("type") == "gadget-instance":
            yield one


def _without_secrets(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        if SECRET_SIGNATURE in value.values():
            return None
        return {key: _without_secrets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return value


@in_every_cluster
def test_nothing_empty_is_declared_that_the_api_server_would_not_store(case: Case, recorded: Record) -> None:
    def empty(value: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - any JSON value
        if isinstance(value, dict):
            for key, item in value.items():
                yield from empty(item, f"{path}.{key}")
        elif isinstance(value, list):
            if not value:
                yield path
            for at, item in enumerate(value):
                yield from empty(item, f"{path}[{at}]")

    for one in recorded(case.environment, **case.settings).objects:
        assert list(empty(one.inputs, one.name)) == []
