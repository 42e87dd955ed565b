"""The rules by themselves: they follow the lab's speed, and each alert says whose it is."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from grafana import MEMORY_LIMIT_BYTES, Pace, rules, thresholds
from service import health
from service.config import ServiceConfig
from tests.support.alerts import KERNEL, TEAM

if TYPE_CHECKING:
    from pathlib import Path

SPEEDS = (0.1, 1, 60, 1000)


def read(truth: bool, speed: float = 1.0) -> list[dict[str, Any]]:
    return [
        rule
        for text in rules(truth, speed=speed).values()
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
    ]


def alerts(truth: bool, speed: float = 1.0) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in read(truth, speed) if "alert" in rule}


def test_without_the_truth_only_the_teams_alerts_are_there() -> None:
    assert set(alerts(truth=False)) == TEAM
    assert all("alert" in rule for rule in read(truth=False))
    assert "memleak_" not in "".join(rules(truth=False).values())


def test_with_the_truth_come_the_alerts_that_would_have_caught_it() -> None:
    assert set(alerts(truth=True)) == TEAM | KERNEL


def test_an_alert_says_whose_it_is_how_urgent_and_what_to_do() -> None:
    for name, alert in alerts(truth=True).items():
        assert alert["labels"]["team"] == ("catalog" if name in TEAM else "kernel")
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert set(alert["annotations"]) == {"summary", "description"}
        assert alert["annotations"]["description"].endswith(".")


def test_a_recorded_series_is_recorded_once_and_before_it_is_read() -> None:
    recorded: list[str] = []
    for rule in read(truth=True):
        for name in re.findall(r"\b(?:pod|function):\w+:\w+", rule["expr"]):
            assert name in recorded, f"{name} is read before it is recorded"
        if "record" in rule:
            assert rule["record"] not in recorded
            recorded.append(rule["record"])


@pytest.mark.parametrize("speed", SPEEDS)
def test_rules_are_evaluated_as_often_as_prometheus_scrapes(speed: float) -> None:
    intervals = {
        group["interval"]
        for text in rules(truth=True, speed=speed).values()
        for group in yaml.safe_load(text)["groups"]
    }

    assert intervals == {Pace(speed).scrape_interval}


@pytest.mark.parametrize(("speed", "hold"), [(0.1, "50m"), (1, "5m"), (10, "30s"), (60, "10s"), (1000, "10s")])
def test_an_alert_holds_for_five_minutes_of_the_story_and_ten_seconds_of_the_clock(speed: float, hold: str) -> None:
    assert alerts(truth=True, speed=speed)["MemoryLimitAhead"]["for"] == hold


def test_the_default_limit_is_the_services_own() -> None:
    assert ServiceConfig.from_environ({}).memory_limit_bytes == MEMORY_LIMIT_BYTES


def test_alerts_fire_where_the_service_changes_its_own_verdict() -> None:
    assert thresholds.MEMORY_HIGH_PERCENT == health.HIGH_PERCENT
    assert thresholds.MEMORY_CRITICAL_PERCENT == health.CRITICAL_PERCENT
    assert thresholds.UNCOLLECTABLE_HIGH == health.UNCOLLECTABLE_OBJECTS


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool on the PATH")
def test_promtool_finds_nothing(speed: float, tmp_path: Path) -> None:
    for name, text in rules(truth=True, speed=speed).items():
        (tmp_path / name).write_text(text)

    done = subprocess.run(
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
