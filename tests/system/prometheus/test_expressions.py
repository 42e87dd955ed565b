"""Every expression of the dashboards and the rules, on both servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.alerts import KERNEL, TEAM
from tests.system.prometheus.shown import FAST, HEALTH, KERNEL_TRUTH, PLACES
from tests.system.prometheus.story import Place

if TYPE_CHECKING:
    from tests.system.prometheus.story import Story

pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(240)]


@PLACES
@pytest.mark.parametrize("dashboard", [HEALTH, KERNEL_TRUTH])
def test_no_panel_is_empty(story: Story, place: Place, dashboard: str) -> None:
    screen = story.screen(dashboard, place, FAST[place])

    empty = {
        f"{target.panel} {target.legend}"
        for target in screen.targets()
        if not story.servers[place].instant(target.expr, story.degraded.at)
    }

    # Here plain Docker has neither a kubelet nor Inspektor Gadget, and the cluster no tracer, which knows callers.
    only_in = {
        Place.CLUSTER: {
            "Claimed, resident, working set working set {{pod}}",
            "Allocations against frees {{operation}} calls, all functions",
            "Outstanding bytes by function {{function}} {{pod}} {{container}}",
        },
        Place.DOCKER: {"Outstanding bytes by function {{function}} from {{caller}} {{pod}} {{container}}"},
    }
    absent = set().union(*(series for there, series in only_in.items() if there is not place))
    assert empty == (absent if dashboard == KERNEL_TRUTH else set())


@PLACES
def test_every_rule_is_evaluated_and_every_recorded_series_exists(story: Story, place: Place) -> None:
    server = story.servers[place]
    found = [rule for group in server.ask("/rules")["groups"] for rule in group["rules"]]

    assert {rule["name"] for rule in found if rule["type"] == "alerting"} == TEAM | KERNEL
    assert {rule["name"]: rule.get("lastError", "") for rule in found if rule["health"] != "ok"} == {}
    for rule in found:
        server.instant(rule["query"], story.degraded.at)
        if rule["type"] == "recording":
            absent = not server.instant(rule["name"], story.degraded.at)
            assert absent == (place is Place.DOCKER and "working_set" in rule["name"]), rule["name"]


@PLACES
@pytest.mark.parametrize("dashboard", [HEALTH, KERNEL_TRUTH])
def test_every_choice_has_something_to_choose(story: Story, place: Place, dashboard: str) -> None:
    screen = story.screen(dashboard, place)
    choices = {
        variable["name"]: {
            value
            for sample in story.servers[place].instant(expr, story.degraded.at)
            if (value := sample.labels.get(label))
        }
        for variable in screen.model["templating"]["list"]
        if variable["type"] == "query"
        for expr, label in [variable["definition"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)]
        for expr in [screen.view.fill(expr)]
    }

    assert choices.pop("job") == {"leaker"}
    assert len(choices.pop("instance")) == (1 if place is Place.DOCKER else 2)
    if choices:
        assert choices == {"pod": set() if place is Place.DOCKER else {"leaker-calm", "leaker-fast"}}
