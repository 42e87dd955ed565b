"""What Prometheus and Grafana are given to show: dashboards and rules at the pace and the size of this stack's leak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grafana import DATASOURCE_UID, Pace, dashboards, rules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.config import LabConfig


@dataclass(frozen=True)
class Monitoring:
    """``dashboards`` and ``rules`` are files, by name. ``pace`` says how often Prometheus looks."""

    pace: Pace
    dashboards: Mapping[str, str]
    rules: Mapping[str, str]


def monitoring(config: LabConfig) -> Monitoring:
    """The files for this stack: with `truth`, also those that show what the kernel knows."""
    speed, limit = config.leak.speed, config.leak.memory_limit_bytes
    return Monitoring(
        Pace(speed),
        dashboards(config.truth, DATASOURCE_UID, speed=speed, memory_limit_bytes=limit),
        rules(config.truth, speed=speed, memory_limit_bytes=limit),
    )
