"""What a change to the stack changes, and what it leaves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import grafana
from infra.config import HEADROOM_MIB

if TYPE_CHECKING:
    from tests.infra.conftest import Record
    from tests.support.recording import Recording


def _differences(before: Recording, after: Recording) -> dict[str, list[str]]:
    """The names of resources whose inputs differ, with the paths of the differing values."""
    first, second = ({one.urn: one for one in run.declared} for run in (before, after))
    assert first.keys() == second.keys()
    return {
        f"{one.kind or one.type} {one.name}": paths
        for urn, one in second.items()
        if (paths := sorted(_differing(first[urn].inputs, one.inputs)))
    }


def _differing(first: Any, second: Any, path: str = "") -> set[str]:  # noqa: ANN401 - any JSON value
    if isinstance(first, dict) and isinstance(second, dict):
        return {
            found
            for key in first.keys() | second.keys()
            for found in _differing(first.get(key), second.get(key), f"{path}.{key}")
        }
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return {
            found
            for at, pair in enumerate(zip(first, second, strict=True))
            for found in _differing(*pair, f"{path}[{at}]")
        }
    return set() if first == second else {path}


def test_a_changed_dashboard_changes_its_config_map_and_rolls_grafana(
    recorded: Record, recorded_afresh: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = recorded("kind")

    def reworded(*arguments: Any, **options: Any) -> dict[str, str]:  # noqa: ANN401 - whatever the original takes
        return {name: text + "\n" for name, text in grafana.dashboards(*arguments, **options).items()}

    monkeypatch.setattr("infra.monitoring.dashboards", reworded)
    changes = _differences(before, recorded_afresh("kind"))
    config_map, deployment = changes.pop("ConfigMap dashboards"), changes.pop("Deployment grafana")
    assert changes == {}
    assert all(path.startswith(".data.") for path in config_map)
    assert deployment == [".spec.template.metadata.annotations.memleak-lab/checksum"]


def test_a_new_speed_changes_the_leakers_variables_and_the_pace_of_those_who_watch(recorded: Record) -> None:
    changes = _differences(recorded("kind"), recorded("kind", speed=60))
    deployments = {name: paths for name, paths in changes.items() if name.startswith("Deployment")}
    (path,) = deployments.pop("Deployment leaker")
    assert path.startswith(".spec.template.spec.containers[0].env[")
    files = [".spec.template.metadata.annotations.memleak-lab/checksum"]
    assert deployments == {"Deployment prometheus": files, "Deployment grafana": files}


def test_a_new_gadget_is_a_new_instance_under_a_new_name(recorded: Record) -> None:
    changes = _differences(recorded("kind"), recorded("kind", gadgetImage="ghcr.io/someone/trace_malloc:v9"))
    assert list(changes) == ["ConfigMap gadget-instance"]
    assert ".metadata.name" in changes["ConfigMap gadget-instance"]


@pytest.mark.parametrize("cap", [0, 300, 2000, 65536])
def test_the_pods_limit_follows_the_cap_and_is_what_the_claims_divide_by(cap: int, recorded: Record) -> None:
    recording = recorded("kind", capMiB=cap)
    (container,) = recording.the("Deployment", "leaker").inputs["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    limit = cap + HEADROOM_MIB
    assert container["resources"]["limits"]["memory"] == f"{limit}Mi"
    assert container["resources"]["requests"]["memory"] == f"{limit}Mi"
    assert variables["LAB_MEMORY_LIMIT_BYTES"] == str(limit * 2**20)
    assert variables["LAB_CAP_BYTES"] == str(cap * 2**20)


def test_a_larger_limit_is_the_pods_and_the_claims(recorded: Record) -> None:
    recording = recorded("kind", memoryLimitMiB=4096)
    (container,) = recording.the("Deployment", "leaker").inputs["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert container["resources"]["limits"]["memory"] == "4096Mi"
    assert variables["LAB_MEMORY_LIMIT_BYTES"] == str(4096 * 2**20)


def test_of_many_pods_exactly_one_leaks_and_the_rest_request_little(recorded: Record) -> None:
    changes = recorded("kind", replicas=10)
    leaker, peers = (changes.the("Deployment", name).inputs["spec"] for name in ("leaker", "leaker-peers"))
    assert (leaker["replicas"], peers["replicas"]) == (1, 9)

    def container(spec: dict[str, Any]) -> dict[str, Any]:
        (found,) = spec["template"]["spec"]["containers"]
        return dict(found)

    of_one, of_the_rest = ({one["name"]: one["value"] for one in container(spec)["env"]} for spec in (leaker, peers))
    assert {name for name in of_one if of_one[name] != of_the_rest[name]} == {"LAB_CAP_BYTES"}
    assert of_the_rest["LAB_CAP_BYTES"] == "0"
    assert container(leaker)["resources"]["limits"] == container(peers)["resources"]["limits"]
    assert container(peers)["resources"]["requests"]["memory"] == "128Mi"
    assert not {"leaker-peers"} & {one.name for one in recorded("kind").declared}


def test_a_leaker_serves_on_until_its_address_is_forgotten(recorded: Record) -> None:
    spec = recorded("kind").the("Deployment", "leaker").inputs["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    pod = spec["template"]["spec"]
    (_, linger) = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    # The service itself stops in less than 2 s.
    assert pod["terminationGracePeriodSeconds"] >= int(linger) + 2


def test_the_image_needs_no_wait_where_nodes_get_it_by_hand(recorded: Record) -> None:
    by_hand, pushed = recorded("kind", registry="none"), recorded("kind")
    for kind, name in (("Deployment", "leaker"), ("Deployment", "visitors"), ("Service", "leaker")):
        note = {"pulumi.com/skipAwait": "true"}
        assert by_hand.the(kind, name).inputs["metadata"]["annotations"] == note
        assert "annotations" not in pushed.the(kind, name).inputs["metadata"]
    (container,) = by_hand.the("Deployment", "leaker").inputs["spec"]["template"]["spec"]["containers"]
    assert container["imagePullPolicy"] == "Never"
    assert by_hand.outputs["import_command"] == f"kind load docker-image {container['image']} --name lab"
    assert "import_command" not in pushed.outputs


def test_parts_can_be_left_out(recorded: Record) -> None:
    def names(**settings: object) -> set[str]:
        return {one.name for one in recorded("kind", **settings).declared}

    everything = names()
    assert everything - names(grafana=False) == {"grafana"}
    assert "dashboards" in names(grafana=False)
    assert everything - names(gadget="none") == {
        "inspektor-gadget",
        "gadget",
        "gadget-namespace",
        "gadget-policy",
        "gadget-instance",
        "prometheus-gadget",
    }
    assert everything - names(prometheus=False, grafana=False) == {
        "grafana",
        "prometheus",
        "prometheus-nodes",
        "prometheus-lab",
        "prometheus-gadget",
    }


def test_a_preview_declares_what_an_update_does(recorded: Record, previewed: Record) -> None:
    assert previewed("kind").comparable()["resources"] == recorded("kind").comparable()["resources"]


def test_a_registry_with_a_password_gives_the_nodes_a_login(recorded: Record) -> None:
    settings = {"registry": "dockerhub", "dockerhubUser": "someone", "registryPassword": "token"}
    recording = recorded("gke", **settings)
    (secret,) = recording.of_kind("Secret")
    login = secret.inputs["stringData"][".dockerconfigjson"]
    assert '"https://index.docker.io/v1/": {"username": "someone", "password": "token"' in login
    for name in ("leaker", "visitors"):
        pod = recording.the("Deployment", name).inputs["spec"]["template"]["spec"]
        assert pod["imagePullSecrets"] == [{"name": secret.object_name}]


@pytest.mark.parametrize(
    ("environment", "settings", "pushed", "pulled"),
    [
        ("kind", {}, "localhost:5001/memleak-demo", "localhost:5001/memleak-demo@"),
        ("minikube", {}, "localhost:5001/memleak-demo", "localhost:5000/memleak-demo@"),
        ("kind", {"pullRegistry": "reg:5000"}, "localhost:5001/memleak-demo", "reg:5000/memleak-demo@"),
        (
            "eks",
            {"registry": "dockerhub", "dockerhubUser": "me", "imageName": "shop"},
            "docker.io/me/shop",
            "docker.io/me/shop@",
        ),
        ("gke", {"registry": "eu.gcr.io/p"}, "eu.gcr.io/p/memleak-demo", "eu.gcr.io/p/memleak-demo@"),
        ("kind", {"registry": "none"}, "memleak-demo", "memleak-demo:"),
    ],
)
def test_the_image_is_pushed_and_pulled_under_the_right_names(
    environment: str, settings: dict[str, object], pushed: str, pulled: str, recorded: Record
) -> None:
    recording = recorded(environment, **settings)
    (image,) = recording.of_type("docker:index/image:Image")
    assert image.inputs["imageName"].rpartition(":")[0] == pushed
    assert image.inputs["skipPush"] is (settings.get("registry") == "none")
    (container,) = recording.the("Deployment", "leaker").inputs["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith(pulled)
    assert recording.outputs["image"] == container["image"]
