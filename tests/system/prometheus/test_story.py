"""The hour as the alerts and the dashboards' colors tell it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from tests.support.alerts import KERNEL
from tests.support.screen import NO_DATA
from tests.system.prometheus.shown import FAST, HEALTH, KERNEL_TRUTH, LEAKS, PLACES, line, only
from tests.system.prometheus.story import SPEED, Place

if TYPE_CHECKING:
    from tests.system.prometheus.story import Story

pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(240)]
LATENCY = "Lookup latency, p95"


# ---- the alerts -----------------------------------------------------------------------------------------------------


@PLACES
def test_the_teams_alerts_are_silent_all_the_time(story: Story, place: Place) -> None:
    fired = story.servers[place].over(
        'ALERTS{team="catalog",alertstate="firing"}', story.settled.started_at, story.settled.at
    )

    assert [labels["alertname"] for labels, _ in fired] == []


@PLACES
def test_the_alerts_that_know_the_truth_fire(story: Story, place: Place) -> None:
    fired = story.servers[place].over(
        'ALERTS{team="kernel",alertstate="firing"}', story.settled.started_at, story.settled.at
    )

    assert {labels["alertname"] for labels, _ in fired} == KERNEL
    # Of the two pods it is the right one.
    assert {labels.get("pod", "") for labels, _ in fired} == {FAST[place]}
    (function,) = {labels["function"] for labels, _ in fired if labels["alertname"] == "FunctionKeepsItsMemory"}
    assert function == LEAKS[place]


@PLACES
def test_the_truth_is_told_before_lookups_slow_down(story: Story, place: Place) -> None:
    degrades_at = story.settled.started_at + 30 * 60 / SPEED

    early = story.servers[place].instant('ALERTS{team="kernel",alertstate="firing"}', degrades_at)

    assert {sample.labels["alertname"] for sample in early} == KERNEL


# ---- the story, phase by phase --------------------------------------------------------------------------------------

GREEN = {"green"}
ALL_GREEN = dict.fromkeys(
    (
        "Health",
        "Memory in use",
        "Probes passed",
        "Restarts",
        "Alerts",
        "Errors",
        "Uncollectable objects",
        LATENCY,
    ),
    GREEN,
)


def test_in_the_first_phase_everything_is_green_and_the_kernel_agrees(story: Story) -> None:
    at = story.normal.at
    assert story.normal.ledger["phase"] == "normal"

    assert story.screen(HEALTH, Place.CLUSTER, "leaker-calm").colors(at) == ALL_GREEN
    assert story.screen(KERNEL_TRUTH, Place.CLUSTER, "leaker-calm").colors(at) == {
        "Missing from the claims": GREEN,
        "Time left to the limit": {NO_DATA},
        "Growth explained": {NO_DATA},
        "Held by one function": GREEN,
        "Never given back": {NO_DATA},
        "Events lost": GREEN,
    }


TRUTH_IS_RED = {
    "Missing from the claims": {"red"},
    "Time left to the limit": {"red"},
    "Growth explained": GREEN,
    "Held by one function": {"red"},
    "Never given back": {"red"},
    "Events lost": GREEN,
}


@PLACES
def test_in_the_second_phase_everything_is_green_and_the_kernel_knows_better(story: Story, place: Place) -> None:
    at = story.leaking.at
    assert story.leaking.ledger["phase"] == "leaking"

    assert story.screen(HEALTH, place, FAST[place]).colors(at) == ALL_GREEN
    assert story.screen(KERNEL_TRUTH, place, FAST[place]).colors(at) == TRUTH_IS_RED


@PLACES
def test_in_the_third_phase_latency_rises_and_nothing_else_does(story: Story, place: Place) -> None:
    at = story.degraded.at
    assert story.degraded.ledger["phase"] == "degraded"

    shown = story.screen(HEALTH, place, FAST[place]).colors(at)

    assert shown[LATENCY] in ({"orange"}, {"red"})
    assert {**shown, LATENCY: GREEN} == ALL_GREEN
    assert story.screen(KERNEL_TRUTH, place, FAST[place]).colors(at) == TRUTH_IS_RED


def test_latency_rises_with_the_leak(story: Story) -> None:
    screen = story.screen(HEALTH, Place.DOCKER)
    medians = [line(screen, "Lookup latency", "p50", reading.at).value for reading in (story.leaking, story.degraded)]

    assert medians[1] > 5 * medians[0]
    assert only(screen, LATENCY, story.degraded.at).text.endswith(" ms")


def test_values_are_read_as_a_person_reads_them(story: Story) -> None:
    health = story.screen(HEALTH, Place.CLUSTER, "leaker-fast")
    kernel = story.screen(KERNEL_TRUTH, Place.CLUSTER, "leaker-fast")
    at = story.leaking.at

    assert only(health, "Health", at).text == "Healthy"
    assert only(health, "Alerts", at).text == "None"
    assert only(health, "Memory in use", at).text.endswith("%")
    assert {(shown.name, shown.text) for shown in health.show("Probes passed", at)} == {
        ("Liveness", "100%"),
        ("Readiness", "100%"),
    }
    assert only(kernel, "Held by one function", at).text.endswith(" MiB")
    assert only(kernel, "Never given back", at).text == "100%"
    assert only(kernel, "Time left to the limit", at).text.endswith(" mins")
    assert not math.isnan(only(kernel, "Growth explained", at).value)
