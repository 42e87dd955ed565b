"""What the lab shows and watches: dashboards, Grafana's provisioning, Prometheus' rules. Pure functions of text."""

from __future__ import annotations

from typing import Final

from grafana import kernel_truth, service_health
from grafana.guide import guide_dashboard, links
from grafana.kernel_rules import kernel_alerts, kernel_recordings
from grafana.pace import Pace
from grafana.provisioning import DATASOURCE_UID, provisioning
from grafana.rendering import Frame, frame, link, render
from grafana.rules import render as render_rules
from grafana.team_alerts import team_alerts
from grafana.thresholds import MIB

__all__ = ["DATASOURCE_UID", "Pace", "dashboards", "provisioning", "rules"]

HEALTH_UID: Final = "memleak-lab-health"
KERNEL_UID: Final = "memleak-lab-kernel"
# The leak's 2000 MiB, and 560 MiB for everything else.
MEMORY_LIMIT_BYTES: Final = 2560 * MIB


def dashboards(
    truth: bool,
    datasource_uid: str,
    *,
    speed: float = 1.0,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    guide: str = "",
) -> dict[str, str]:
    """Every dashboard's file name and JSON text: the bare model, as file provisioning and sidecars take it.

    Args:
        truth: also what the kernel knows, and the guide.
        datasource_uid: the data source that the dashboards' variable begins with.
        speed: how much faster than the hour-long story the lab runs.
        memory_limit_bytes: the service's memory limit.
        guide: the text of docs/EBPF_GUIDE.md; without it no panel links to it.
    """
    health = Frame(
        HEALTH_UID,
        "Service health",
        "The catalog service at a glance: is it up, is it fast, does it answer, is there memory left.",
        revealed=False,
        links=[link("What the kernel knows", KERNEL_UID)] if truth else [],
    )
    files = {
        "service-health.json": frame(health, service_health.panels(memory_limit_bytes), datasource_uid, speed),
    }
    if truth:
        kernel = Frame(
            KERNEL_UID,
            "What the kernel knows",
            "What the service claims about its memory, beside what the kernel counts, and who holds the difference.",
            revealed=True,
            variables=[kernel_truth.pod_variable()],
            links=[link("Service health", HEALTH_UID), *links(guide, "eBPF guide")],
        )
        panels = kernel_truth.panels(
            trace=links(guide, "How to trace this yourself", "choose", "trace"),
            why=links(guide, "Why the service saw nothing", "why", "metrics"),
        )
        files["kernel-truth.json"] = frame(kernel, panels, datasource_uid, speed)
        if guide:
            files["ebpf-guide.json"] = guide_dashboard(guide)
    return {name: render(built) for name, built in files.items()}


def rules(
    truth: bool, *, speed: float = 1.0, memory_limit_bytes: int = MEMORY_LIMIT_BYTES, job: str = "leaker"
) -> dict[str, str]:
    """Prometheus' rule files: name and YAML text.

    Args:
        truth: also what the kernel knows: the series that its dashboard reads, and the alerts that would have fired.
        speed: how much faster than the hour-long story the lab runs; windows and holds follow it.
        memory_limit_bytes: the service's memory limit.
        job: the name of the scrape job that reads the service's claims.
    """
    pace = Pace(speed)
    files = {"team.rules.yml": render_rules(team_alerts(pace, job, memory_limit_bytes))}
    if truth:
        files["kernel.rules.yml"] = render_rules(kernel_recordings(pace, job, memory_limit_bytes), kernel_alerts(pace))
    return files
