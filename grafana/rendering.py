"""From a dashboard's builder to the text of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.cog.encoder import JSONEncoder

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard


def render(dashboard: Dashboard) -> str:
    """The bare model, without the ``{"dashboard": ...}`` wrapper that file provisioning refuses."""
    return JSONEncoder(sort_keys=True, indent=2).encode(dashboard.build()) + "\n"
