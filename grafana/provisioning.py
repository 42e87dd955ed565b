"""The files from which Grafana learns its data source and its dashboards at start."""

from __future__ import annotations

from typing import Final

import yaml

from grafana.pace import Pace

DATASOURCE_UID: Final = "memleak-lab-prometheus"


def provisioning(prometheus_url: str, dashboards_folder: str, *, speed: float = 1.0) -> dict[str, str]:
    """Paths under Grafana's provisioning folder, and their texts.

    ``dashboards_folder`` is where, in Grafana's own file system, the dashboards' files are. Grafana makes
    ``$__rate_interval`` from the interval at which Prometheus scrapes, which follows the lab's ``speed``.
    """
    datasource = {
        "name": "Prometheus",
        "uid": DATASOURCE_UID,
        "type": "prometheus",
        "access": "proxy",
        "url": prometheus_url,
        "isDefault": True,
        "editable": False,
        "jsonData": {
            "httpMethod": "POST",
            "prometheusType": "Prometheus",
            "timeInterval": Pace(speed).scrape_interval,
            # Rules are evaluated by Prometheus; Grafana's alert list shows them as they are there.
            "manageAlerts": False,
        },
    }
    provider = {
        "name": "memleak-lab",
        "type": "file",
        "allowUiUpdates": False,
        "options": {"path": dashboards_folder},
    }
    return {
        "datasources/prometheus.yaml": _yaml({"apiVersion": 1, "datasources": [datasource]}),
        "dashboards/memleak-lab.yaml": _yaml({"apiVersion": 1, "providers": [provider]}),
    }


def _yaml(document: object) -> str:
    return yaml.safe_dump(document, sort_keys=False)
