"""The life of one stack in a cluster, under the real engine: the tests run in order, each goes on from the last."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.request
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from pulumi.automation.errors import CommandError

import grafana
from infra.presence import registry_has
from tests.e2e.conftest import CHART, INLINE, REGISTRY, WITH_GRAFANA, kubectl, living, switch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Life

pytestmark = [pytest.mark.pulumi, pytest.mark.docker, pytest.mark.cluster, pytest.mark.timeout(900)]

NAMESPACE = "memleak-lab-e2e"
PASSWORD = "correct horse battery staple"
IMAGE = "docker:index/image:Image"
MINE = ("--selector", "app.kubernetes.io/part-of in (memleak-lab,inspektor-gadget)", "--output=name")
with_grafana = pytest.mark.skipif(not WITH_GRAFANA, reason="LAB_TEST_GRAFANA is false")


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    settings = {
        "namespace": NAMESPACE,
        "context": switch("CONTEXT", ""),
        "localRegistry": REGISTRY,
        # An image of its own, which the tests may remove.
        "imageName": NAMESPACE,
        "buildNetwork": switch("BUILD_NETWORK", ""),
        "baseImage": switch("BASE_IMAGE", ""),
        "digests": switch("DIGESTS", ""),
        "grafana": str(WITH_GRAFANA).lower(),
        "gadget": "none",
        "gadgetChart": switch("CHART", str(CHART)),
        "capMiB": "300",
    }
    with living(tmp_path_factory.mktemp("kubernetes"), "e2e", settings) as life:
        yield life


def ready(deployment: str) -> str:
    """How many of its pods are ready."""
    answer = "jsonpath={.status.readyReplicas}"
    return kubectl("--namespace", NAMESPACE, "get", "deployment", deployment, "--output", answer)


def pushed(life: Life) -> tuple[str, str, str]:
    """The image's name in Docker, its repository and its digest in the registry."""
    (image,) = [one["outputs"] for one in life.resources() if one["type"] == IMAGE]
    repository, _, digest = image["repoDigest"].rpartition("@")
    return image["imageName"], repository, digest


def forget_in_registry(repository: str, digest: str) -> None:
    """Remove an image from the registry, as one that was made anew has not got it."""
    host, _, path = repository.partition("/")
    request = urllib.request.Request(f"http://{host}/v2/{path}/manifests/{digest}", method="DELETE")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 202


def test_a_wrong_setting_ends_the_update_before_anything_is_made(life: Life) -> None:
    life.configure(speed="0")
    with pytest.raises(CommandError, match=r"pulumi config set speed 1"):
        life.up()
    assert [one for one in life.resources() if one["custom"]] == []
    life.configure(speed="1")


def test_a_preview_of_everything_reports_no_error_and_makes_nothing(life: Life) -> None:
    life.configure(truth="true", replicas="3", gadget="trace_malloc", grafanaAdminPassword=PASSWORD)
    said: list[str] = []
    summary = life.stack.preview(color="never", on_output=said.append).change_summary
    # The stack itself is there, from the update that failed.
    assert {str(getattr(op, "value", op)) for op in summary} == {"create", "same"}
    assert PASSWORD not in "".join(said)
    assert kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "--output=name") == ""
    life.configure(truth="false", replicas="1", gadget="none", grafanaAdminPassword=None)


def test_up_brings_a_healthy_lab(life: Life) -> None:
    result = life.result()
    assert result.summary.result == "succeeded"
    assert result.outputs["namespace"].value == NAMESPACE
    assert ready("leaker") == "1"
    for name, output in result.outputs.items():
        if name.endswith("_command"):
            subprocess.run(["sh", "-n", "-c", output.value], check=True)


def test_docker_is_not_asked_to_guess_the_platform(life: Life) -> None:
    (image,) = [one["inputs"] for one in life.resources() if one["type"] == IMAGE]
    assert image["build"]["platform"].startswith("linux/")


def test_a_second_up_changes_nothing_and_a_refresh_finds_no_drift(life: Life) -> None:
    life.stack.up(expect_no_changes=True)
    life.stack.refresh(expect_no_changes=True)


def test_a_new_speed_rolls_the_leaker_and_those_who_watch_it(life: Life) -> None:
    life.configure(speed="60")
    changes = life.up()
    rolled = {"leaker", "prometheus", *(["grafana"] if WITH_GRAFANA else [])}
    assert {name for name in changes.touched if name.startswith("Deployment")} == {
        f"Deployment {one}" for one in rolled
    }
    assert {step for step, _ in changes.steps} == {"update"}
    assert ready("leaker") == "1"


@with_grafana
@pytest.mark.skipif(not INLINE, reason="the program's own modules are changed in this process")
def test_a_changed_dashboard_rolls_grafana_only(life: Life) -> None:
    real = grafana.dashboards

    def reworded(*arguments: object, **options: object) -> dict[str, str]:
        return {name: text + "\n" for name, text in real(*arguments, **options).items()}  # type: ignore[arg-type]

    with mock.patch("infra.monitoring.dashboards", reworded):
        changes = life.up()
    assert changes.steps == {("update", "ConfigMap dashboards"), ("update", "Deployment grafana")}
    assert life.up().steps == changes.steps, "and back"


@with_grafana
def test_the_truth_adds_a_dashboard_and_its_rules_and_leaves_the_service_alone(life: Life) -> None:
    life.configure(truth="true")
    changes = life.up()
    assert {name for name in changes.touched if name.startswith("Deployment")} == {
        "Deployment grafana",
        "Deployment prometheus",
    }
    assert {step for step, _ in changes.steps} == {"update"}


def test_more_replicas_are_peers_of_the_one_that_leaks(life: Life) -> None:
    life.configure(replicas="3")
    assert life.up().steps == {("create", "Deployment leaker-peers")}
    assert (ready("leaker"), ready("leaker-peers")) == ("1", "2")
    life.stack.up(expect_no_changes=True)


def test_inspektor_gadget_comes_and_goes_by_itself(life: Life) -> None:
    if kubectl("get", "namespace", "gadget", "--ignore-not-found", "--output=name"):
        pytest.skip("the cluster has an Inspektor Gadget of its own")
    life.configure(gadget="trace_malloc")
    changes = life.up()
    assert {name for step, name in changes.steps if step == "create"} == {
        "Namespace gadget-namespace",
        "NetworkPolicy gadget-policy",
        "Release gadget",
        "ConfigMap gadget-instance",
        "Role prometheus-gadget",
        "RoleBinding prometheus-gadget",
    }
    assert {name for step, name in changes.steps if step == "update"} == {
        "ConfigMap prometheus",
        "Deployment prometheus",
        "NetworkPolicy prometheus",
    }
    (instance,) = json.loads(
        kubectl("--namespace", "gadget", "get", "configmaps", "--selector=type=gadget-instance", "--output=json")
    )["items"]
    assert instance["data"]["operator.KubeManager.namespace"] == NAMESPACE
    life.stack.up(expect_no_changes=True)
    life.stack.refresh(expect_no_changes=True)
    life.configure(gadget="none")
    assert {step for step, _ in life.up().steps} == {"delete", "update"}
    assert kubectl("get", "clusterroles,clusterrolebindings", "--output=name").count("gadget-cluster-role") == 0


@with_grafana
def test_a_password_stands_in_no_file_of_the_state(life: Life) -> None:
    life.configure(grafanaAdminPassword=PASSWORD)
    changes = life.up()
    assert ("create", "Secret grafana-admin") in changes.steps
    assert PASSWORD not in "".join(life.said)
    secret = kubectl("--namespace", NAMESPACE, "get", "secrets", "--output=jsonpath={.items[*].data.password}")
    assert base64.b64decode(secret).decode() == PASSWORD
    written = life.state_files()
    assert b"grafana-admin" in written, "these are the files"
    for form in (PASSWORD.encode(), base64.b64encode(PASSWORD.encode())):
        assert form not in written
    life.configure(grafanaAdminPassword=None)
    assert ("delete", "Secret grafana-admin") in life.up().steps
    life.stack.up(expect_no_changes=True)


def test_a_registry_that_was_made_anew_gets_the_image_again(life: Life) -> None:
    _, repository, digest = pushed(life)
    forget_in_registry(repository, digest)
    assert registry_has(repository, digest) is False
    said: list[str] = []
    life.stack.preview(color="never", on_output=said.append)
    assert "`pulumi up` pushes it again" in "".join(said)
    assert life.up().steps == set()
    assert "it is pushed again" in "".join(life.said)
    assert registry_has(repository, digest) is True


def test_an_image_that_nobody_has_any_more_is_built_by_the_line_to_type(life: Life) -> None:
    name, repository, digest = pushed(life)
    forget_in_registry(repository, digest)
    subprocess.run(["docker", "image", "rm", "--force", name], capture_output=True, check=True)
    urn = life.urn(IMAGE)
    with pytest.raises(CommandError) as raised:
        life.up()
    assert f"pulumi up --refresh --replace '{urn}'" in str(raised.value)
    assert "Traceback" not in str(raised.value)
    life.up(refresh=True, replace=[urn])
    _, repository, digest = pushed(life)
    assert registry_has(repository, digest) is True
    assert ready("leaker") == "1"


def test_a_cluster_that_was_made_anew_is_noticed_and_filled_again_by_one_command(life: Life) -> None:
    kubectl("delete", "namespace", NAMESPACE)
    kubectl("delete", "clusterroles,clusterrolebindings", *MINE[:2])
    _, repository, digest = pushed(life)
    forget_in_registry(repository, digest)
    with pytest.raises(CommandError) as raised:
        life.up()
    assert "pulumi up --refresh\n" in str(raised.value)
    assert "Traceback" not in str(raised.value)
    changes = life.up(refresh=True)
    assert {"Namespace namespace", "Deployment leaker", "ClusterRole prometheus-nodes"} <= changes.touched
    assert (ready("leaker"), ready("leaker-peers")) == ("1", "2")
    assert registry_has(repository, digest) is True
    life.stack.up(expect_no_changes=True)


def test_destroy_leaves_nothing(life: Life) -> None:
    life.stack.destroy()
    assert life.resources() == []
    assert kubectl("get", "namespaces,clusterroles,clusterrolebindings", *MINE) == ""
