"""The life of one stack under the real engine. The tests run in this order and each goes on from the one before."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from pulumi.automation import ConfigValue
from pulumi.automation.errors import CommandError

from tests.e2e.conftest import NAMESPACE, Changes, configure, switch

if TYPE_CHECKING:
    from pulumi.automation import Stack

pytestmark = [pytest.mark.pulumi, pytest.mark.docker, pytest.mark.timeout(1800)]

IN_CLUSTER = switch("TARGET", "kubernetes") == "kubernetes"
WITH_GRAFANA = switch("GRAFANA", "true") == "true"
PASSWORD = "correct horse battery staple"
in_cluster = pytest.mark.skipif(not IN_CLUSTER, reason="LAB_TEST_TARGET is docker")
with_grafana = pytest.mark.skipif(not WITH_GRAFANA, reason="LAB_TEST_GRAFANA is false")


def kubectl(*arguments: str) -> str:
    """Ask the cluster, in the context that the stack uses."""
    context = ["--context", chosen] if (chosen := switch("CONTEXT", "")) else []
    return subprocess.run(["kubectl", *context, *arguments], capture_output=True, text=True, check=True).stdout


def resources(stack: Stack) -> list[dict[str, Any]]:
    """What the stack's state holds."""
    return list((stack.export_stack().deployment or {}).get("resources") or [])


def leaker_runs() -> bool:
    """Whether the leaker is up, as its runtime sees it."""
    if IN_CLUSTER:
        ready = "jsonpath={.status.readyReplicas}"
        return kubectl("--namespace", NAMESPACE, "get", "deployment", "leaker", "--output", ready) == "1"
    state = ["docker", "inspect", "--format", "{{.State.Health.Status}}", f"{NAMESPACE}-leaker"]
    return subprocess.run(state, capture_output=True, text=True, check=True).stdout.strip() == "healthy"


def test_a_wrong_setting_ends_the_update_before_anything_is_made(stack: Stack) -> None:
    configure(stack, {"speed": "0"})
    with pytest.raises(CommandError, match=r"pulumi config set speed 1"):
        stack.up()
    assert [one for one in resources(stack) if one["custom"]] == []
    configure(stack, {"speed": "1"})


def test_up_brings_a_healthy_lab(stack: Stack) -> None:
    result = stack.up()
    assert result.summary.result == "succeeded"
    assert result.outputs["namespace"].value == NAMESPACE
    assert leaker_runs()
    for name, output in result.outputs.items():
        if name.endswith("_command"):
            subprocess.run(["sh", "-n", "-c", output.value], check=True)


def test_a_second_up_changes_nothing(stack: Stack) -> None:
    stack.up(expect_no_changes=True)


def test_a_refresh_finds_no_drift(stack: Stack) -> None:
    stack.refresh(expect_no_changes=True)


def test_a_new_speed_rolls_the_leaker_and_those_who_watch_it(stack: Stack) -> None:
    configure(stack, {"speed": "60"})
    changes = Changes()
    stack.up(on_event=changes)
    touched = {name for _, name in changes.steps}
    rolled = {"leaker", "prometheus", *(["grafana"] if WITH_GRAFANA else [])}
    if IN_CLUSTER:
        assert {name for name in touched if name.startswith("Deployment")} == {f"Deployment {one}" for one in rolled}
        assert {step for step, _ in changes.steps} == {"update"}
    else:
        assert touched == {f"Container {one}" for one in rolled}
    assert leaker_runs()


@with_grafana
def test_the_truth_adds_a_dashboard_and_rolls_grafana_only(stack: Stack) -> None:
    configure(stack, {"truth": "true"})
    changes = Changes()
    stack.up(on_event=changes)
    touched = {name for _, name in changes.steps}
    assert "Deployment grafana" in touched or "Container grafana" in touched
    assert not touched & {"Deployment leaker", "Deployment visitors", "Container leaker", "Container visitors"}


@with_grafana
def test_a_password_is_in_no_state_in_the_clear(stack: Stack) -> None:
    stack.set_config("grafanaAdminPassword", ConfigValue(PASSWORD, secret=True))
    stack.up(show_secrets=False)
    assert PASSWORD not in json.dumps(stack.export_stack().deployment)
    stack.remove_config("grafanaAdminPassword")
    stack.up()
    stack.up(expect_no_changes=True)


@in_cluster
def test_destroy_leaves_nothing(stack: Stack) -> None:
    stack.destroy()
    assert resources(stack) == []
    mine = ("--selector", "app.kubernetes.io/part-of in (memleak-lab,inspektor-gadget)", "--output=name")
    assert kubectl("get", "namespaces,clusterroles,clusterrolebindings", *mine) == ""


@pytest.mark.skipif(IN_CLUSTER, reason="LAB_TEST_TARGET is kubernetes")
def test_destroy_leaves_no_container_and_no_network(stack: Stack) -> None:
    stack.destroy()
    label = "label=app.kubernetes.io/part-of=memleak-lab"
    for listing in (["docker", "ps", "--all"], ["docker", "network", "ls"]):
        command = [*listing, "--quiet", "--filter", label]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""
