"""What Prometheus and Grafana are given to show: dashboards and rules at the pace and the size of this stack's leak."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grafana import DATASOURCE_UID, Pace, dashboards, rules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.config import LabConfig

# What the dashboards' links lead to: it is shown in Grafana itself, where there is no internet to lead to.
GUIDE = Path(__file__).parents[1] / "docs" / "EBPF_GUIDE.md"


@dataclass(frozen=True)
class Monitoring:
    """``dashboards`` and ``rules`` are files, by name. ``pace`` says how often Prometheus looks, ``truth`` where."""

    pace: Pace
    truth: bool
    dashboards: Mapping[str, str]
    rules: Mapping[str, str]


def monitoring(config: LabConfig) -> Monitoring:
    """The files for this stack: with `truth`, also those that show what the kernel knows."""
    speed, limit = config.leak.speed, config.leak.memory_limit_bytes
    return Monitoring(
        Pace(speed),
        config.truth,
        dashboards(
            config.truth,
            DATASOURCE_UID,
            speed=speed,
            memory_limit_bytes=limit,
            guide=GUIDE.read_text(encoding="utf-8"),
        ),
        rules(config.truth, speed=speed, memory_limit_bytes=limit),
    )
