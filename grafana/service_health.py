"""The dashboard that the team looks at: what the service says about itself."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
)

BESIDE_IT = " What the kernel knows has a dashboard of its own."
DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


def service_health(datasource_uid: str, *, truth: bool) -> Dashboard:
    """Health, as the service reports it."""
    return (
        Dashboard("Service health")
        .uid("memleak-lab-health")
        .tags(["memleak-lab"])
        .description("What the catalog service says about itself." + (BESIDE_IT if truth else ""))
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("5s")
        .time("now-15m", "now")
        .with_variable(
            DatasourceVariable("datasource")
            .label("Data source")
            .type("prometheus")
            .current(VariableOption(text="Prometheus", value=datasource_uid))
        )
        .with_panel(_health())
    )


def _health() -> Panel:
    return (
        Panel()
        .title("Health")
        .description("The service's own verdict on itself: the same checks that /health answers with.")
        .datasource(DATASOURCE)
        .with_target(Dataquery().expr('min(service_health_status{job="leaker"})').instant().ref_id("A"))
        .unit("none")
        .no_value("no data")
        .mappings(
            [
                ValueMap(
                    options={
                        "1": ValueMappingResult(text="healthy", index=0),
                        "0": ValueMappingResult(text="unhealthy", index=1),
                    }
                )
            ]
        )
        .thresholds(
            ThresholdsConfig()
            .mode(ThresholdsMode.ABSOLUTE)
            .steps([Threshold(color="red", value=None), Threshold(color="green", value=1.0)])
        )
        .span(6)
        .height(5)
    )
