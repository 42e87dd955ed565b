"""Every alert of the team's can fire: a real Prometheus scrapes a service that is as sick as can be."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from grafana import MEMORY_LIMIT_BYTES, rules
from tests.support.alerts import TEAM
from tests.support.ports import free_port
from tests.support.prometheus import WITHOUT_PROMETHEUS, running_prometheus
from tests.support.waiting import wait_until
from tests.system.prometheus.sick import running_sick_service

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(not shutil.which("prometheus"), reason=WITHOUT_PROMETHEUS)
def test_every_alert_of_the_teams_fires_when_its_cause_is_there(tmp_path: Path) -> None:
    # Also down: a second target on which nobody listens.
    with running_sick_service(MEMORY_LIMIT_BYTES) as address:
        targets = [address, f"127.0.0.1:{free_port()}"]
        jobs = [{"job_name": "leaker", "static_configs": [{"targets": targets}]}]
        with running_prometheus(tmp_path, jobs, rules(truth=True, speed=1000)) as prometheus:
            firing: set[str] = set()

            def all_fire() -> bool:
                firing.update(
                    sample.labels["alertname"] for sample in prometheus.instant('ALERTS{alertstate="firing"}')
                )
                return firing >= TEAM

            wait_until(all_fire, "every alert of the team's fires", seconds=40)

    assert firing == TEAM, "the kernel's alerts have nothing to go by here"
