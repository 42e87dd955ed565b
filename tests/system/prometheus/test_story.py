"""The hour as the dashboards and the alerts tell it, held against the ledger, /proc and the service's own claims."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from grafana.phases import PHASES
from tests.support.alerts import KERNEL, TEAM
from tests.support.screen import NO_DATA
from tests.system.prometheus.cluster import place as place_in_file
from tests.system.prometheus.story import CAP_BYTES, LIMIT_BYTES, SPEED, VISITORS_PER_SECOND, Place

if TYPE_CHECKING:
    from tests.support.screen import Screen, Shown
    from tests.system.prometheus.story import Reading, Story

pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(240)]

MIB = 1024 * 1024
CHUNK_BYTES = 64 * 1024
LEAKED_A_SECOND = SPEED * MIB / 8
# What Prometheus knows was true a scrape ago, and a recorded series an evaluation before that: 3 s with both under way.
MOVING_ERROR_BYTES = 3 * LEAKED_A_SECOND
# Standing still, what is left is the interpreter's own coming and going between two readings.
STILL_ERROR_BYTES = MIB
HEALTH, KERNEL_TRUTH = "service-health.json", "kernel-truth.json"
FAST = {Place.DOCKER: "", Place.CLUSTER: "leaker-fast"}
# The tracer knows names; the cluster's gadget knows the file and the offset in it.
LEAKS = {
    Place.DOCKER: "catalog_cache_insert",
    Place.CLUSTER: place_in_file("_catalog_cache.abi3.so", "catalog_cache_insert"),
}
PLACES = pytest.mark.parametrize("place", list(Place))
LATENCY = "Lookup latency, p95"


def only(screen: Screen, title: str, at: float) -> Shown:
    (shown,) = screen.show(title, at)
    return shown


def line(screen: Screen, title: str, name: str, at: float) -> Shown:
    (shown,) = (shown for shown in screen.show(title, at) if shown.name.startswith(name))
    return shown


# ---- every expression -----------------------------------------------------------------------------------------------


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


# ---- the numbers ----------------------------------------------------------------------------------------------------


@PLACES
@pytest.mark.parametrize("moment", ["leaking", "degraded", "settled"])
def test_claims_are_shown_as_the_service_makes_them(story: Story, place: Place, moment: str) -> None:
    reading: Reading = getattr(story, moment)
    health = story.screen(HEALTH, place, FAST[place])
    kernel = story.screen(KERNEL_TRUTH, place, FAST[place])

    resident = only(health, "Resident memory", reading.at).value
    claimed = line(kernel, "Claimed, resident, working set", "claimed", reading.at).value
    percent = only(health, "Memory in use", reading.at).value

    assert resident == pytest.approx(reading.claim("process_resident_memory_bytes"), abs=STILL_ERROR_BYTES)
    assert claimed == pytest.approx(resident, abs=STILL_ERROR_BYTES)
    assert percent == pytest.approx(reading.claim("memory_usage_percent"), abs=100 * STILL_ERROR_BYTES / LIMIT_BYTES)
    assert only(health, "Uncollectable objects", reading.at).value == 0


@PLACES
def test_requests_are_counted_as_visitors_make_them(story: Story, place: Place) -> None:
    screen = story.screen(HEALTH, place, FAST[place])

    rates = {shown.name: shown.value for shown in screen.show("Requests", story.degraded.at)}

    visited = rates["/api/items/{id}"] + rates["/"]
    assert visited == pytest.approx(VISITORS_PER_SECOND, rel=0.3), "four scrapes of a second, forty visits"
    assert rates["/health"] == pytest.approx(1, rel=0.6), "the probes"


@PLACES
def test_resident_memory_is_the_kernels_while_it_grows(story: Story, place: Place) -> None:
    screen = story.screen(KERNEL_TRUTH, place, FAST[place])

    for reading in (story.leaking, story.degraded):
        resident = line(screen, "Claimed, resident, working set", "resident", reading.at).value
        kernel = reading.resident_bytes if place is Place.DOCKER else reading.anonymous_bytes
        assert kernel - MOVING_ERROR_BYTES <= resident <= kernel + STILL_ERROR_BYTES


@PLACES
def test_resident_memory_is_the_kernels_when_it_stands_still(story: Story, place: Place) -> None:
    screen = story.screen(KERNEL_TRUTH, place, FAST[place])
    reading = story.settled

    resident = line(screen, "Claimed, resident, working set", "resident", reading.at).value
    missing = only(screen, "Missing from the claims", reading.at).value

    kernel = reading.resident_bytes if place is Place.DOCKER else reading.anonymous_bytes
    assert resident == pytest.approx(kernel, abs=STILL_ERROR_BYTES)
    assert missing == pytest.approx(kernel - reading.claim("process_resident_memory_bytes"), abs=STILL_ERROR_BYTES)
    if place is Place.CLUSTER:
        working_set = line(screen, "Claimed, resident, working set", "working set", reading.at).value
        assert working_set == pytest.approx(reading.resident_bytes, abs=STILL_ERROR_BYTES)


@PLACES
def test_what_the_function_holds_is_what_the_ledger_says(story: Story, place: Place) -> None:
    screen = story.screen(KERNEL_TRUTH, place, FAST[place])
    at = story.settled.at

    held = line(screen, "Outstanding bytes by function", LEAKS[place], at).value
    outstanding, taken, given_back, kept = (shown.value for shown in _row(screen, at))

    # The ledger counts from the start, the tracer from when its probes were in.
    least, most = story.fast_untraced
    assert story.settled.ledger["bytes_live"] == CAP_BYTES
    assert CAP_BYTES - most <= held <= CAP_BYTES - least
    assert held == outstanding == taken * CHUNK_BYTES
    assert (given_back, kept) == (0, 1)


def test_both_places_agree_on_what_stands_still(story: Story) -> None:
    titles = ("Held by one function", "Never given back", "Events lost", "Health", "Restarts")
    seen = {
        place: [
            only(story.screen(dashboard, place, FAST[place]), title, story.settled.at).value
            for dashboard in (HEALTH, KERNEL_TRUTH)
            for title in titles
            if title in story.screen(dashboard, place).titles
        ]
        for place in Place
    }

    assert seen[Place.DOCKER] == seen[Place.CLUSTER]
    assert len(seen[Place.DOCKER]) == len(titles)


@PLACES
def test_growth_is_the_schedules_and_the_function_explains_it(story: Story, place: Place) -> None:
    screen = story.screen(KERNEL_TRUTH, place, FAST[place])
    reading = story.degraded

    resident = line(screen, "Growth, and what explains it", "resident", reading.at).value
    outstanding = line(screen, "Growth, and what explains it", "outstanding", reading.at).value
    explained = only(screen, "Growth explained", reading.at).value
    left = only(screen, "Time left to the limit", reading.at).value

    assert resident == pytest.approx(LEAKED_A_SECOND, rel=0.05)
    assert outstanding == pytest.approx(LEAKED_A_SECOND, rel=0.05)
    assert explained == pytest.approx(1, abs=0.05)
    assert left == pytest.approx((LIMIT_BYTES - reading.resident_bytes) / LEAKED_A_SECOND, rel=0.1)


@PLACES
def test_blocks_are_taken_and_none_comes_back(story: Story, place: Place) -> None:
    screen = story.screen(KERNEL_TRUTH, place, FAST[place])

    title = "Allocations against frees"

    taken = line(screen, title, f"taken by {LEAKS[place]}", story.degraded.at).value
    given_back = line(screen, title, f"given back to {LEAKS[place]}", story.degraded.at).value

    assert taken == pytest.approx(LEAKED_A_SECOND / CHUNK_BYTES, rel=0.3), "four scrapes of a second"
    assert given_back == 0
    if place is Place.CLUSTER:
        stock = {shown.name.split()[0]: shown.value for shown in screen.show(title, story.degraded.at)}
        assert stock["malloc"] - stock["free"] == pytest.approx(taken, rel=0.3), "what stays is the leak"


def test_a_phases_mark_is_where_the_ledgers_clock_puts_it(story: Story) -> None:
    for dashboard in (HEALTH, KERNEL_TRUTH):
        marks = story.screen(dashboard, Place.DOCKER).marks(story.settled.at)

        assert len(marks) == len(PHASES)
        for (_, times), phase in zip(marks.items(), PHASES, strict=True):
            # The first probe comes right after the start; the ledger's clock is read with a request under way.
            late = times[0] - (story.settled.started_at + phase.begins / SPEED)
            assert abs(late) < 2, f"{phase.revealed} is {late:.1f} s late"


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


def _row(screen: Screen, at: float) -> list[Shown]:
    return screen.show("Who holds it", at)
