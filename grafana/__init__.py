"""The dashboards as typed Python, rendered to the bare model that Grafana's file provisioning reads."""

from __future__ import annotations

from grafana.provisioning import provisioning
from grafana.rendering import render
from grafana.service_health import service_health

__all__ = ["dashboards", "provisioning"]


def dashboards(truth: bool, datasource_uid: str) -> dict[str, str]:
    """Every dashboard's file name and JSON text.

    ``datasource_uid`` is the data source that the dashboards' variable begins with. ``truth`` adds what the kernel
    knows beside what the service claims.
    """
    return {"service-health.json": render(service_health(datasource_uid, truth=truth))}
