"""The parts of grafana-foundation-sdk that the dashboards are made of, imported in one place.

The SDK warns at import that version 2 of the dashboard schema is to be preferred. Grafana's file provisioning, and the
sidecars that load labelled ConfigMaps, take version 1: the bare model. So that warning, and no other, is not passed on.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Prefer using dashboardv2", DeprecationWarning)
    from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, text, timeseries
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models import common as common_model
    from grafana_foundation_sdk.models import dashboard as model
    from grafana_foundation_sdk.models import prometheus as prometheus_model
    from grafana_foundation_sdk.models import text as text_model
    from grafana_foundation_sdk.models import units

__all__ = [
    "JSONEncoder",
    "common",
    "common_model",
    "dashboard",
    "model",
    "prometheus",
    "prometheus_model",
    "register_default_plugins",
    "stat",
    "table",
    "text",
    "text_model",
    "timeseries",
    "units",
]
