"""The dashboards' numbers, against the ledger, /proc and the service's own claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from grafana.phases import PHASES
from tests.system.prometheus.shown import FAST, HEALTH, KERNEL_TRUTH, LEAKS, PLACES, holders, line, only
from tests.system.prometheus.story import CAP_BYTES, LIMIT_BYTES, SPEED, VISITORS_PER_SECOND, Place

if TYPE_CHECKING:
    from tests.system.prometheus.story import Reading, Story

pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(240)]

MIB = 1024 * 1024
CHUNK_BYTES = 64 * 1024
LEAKED_A_SECOND = SPEED * MIB / 8
# What Prometheus knows was true a scrape ago, and a recorded series an evaluation before that: 3 s with both under way.
MOVING_ERROR_BYTES = 3 * LEAKED_A_SECOND
# Standing still, what is left is the interpreter's own coming and going between two readings.
STILL_ERROR_BYTES = MIB


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
    outstanding, taken, given_back, kept = (shown.value for shown in holders(screen, at))

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
