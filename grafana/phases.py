"""The story's phases as marks on the dashboards' time axis, and the variables that the dashboards share.

Nothing exports the phase: the service would give the story away. But a phase begins a known time after the service's
start, which prometheus_client stamps on the first request's counter, and the lab's speed is known when the dashboards
are rendered. So a mark is the start plus that time divided by the speed, a value that Grafana reads as a time. It is
late by the wait for the first request, which is a second or so of the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grafana import expressions
from grafana.pace import MINUTE
from grafana.panels import AMBER, DATASOURCE, GREEN, RED
from grafana.sdk import dashboard, model, prometheus

if TYPE_CHECKING:
    from collections.abc import Iterable

# What picks the service's targets on the dashboards, as expressions.py calls it.
CHOSEN: Final = 'job=~"$job",instance=~"$instance"'
ANY: Final = ".+"
MILLISECONDS: Final = 1000


@dataclass(frozen=True)
class Phase:
    """A part of the story, and when it begins: seconds of the story after the service's start.

    ``public`` is its mark on the team's dashboard, ``revealed`` on the one about the kernel's figures.
    """

    public: str
    revealed: str
    begins: float
    color: str


# The service's own schedule (service/schedule.py) has the same times: a test holds the two together.
PHASES: Final = (
    Phase("Phase 1: the service starts", "The service starts, and nothing leaks", 0, GREEN),
    Phase("Phase 2: the service runs", "The leak begins", 30, "blue"),
    Phase("Phase 3: lookups are slower", "Lookups walk what should have been dropped", 30 * MINUTE, AMBER),
    Phase("Phase 4: time to look closer", "Time for the diagnosis", 60 * MINUTE, RED),
)


def marks(*, revealed: bool) -> Iterable[dashboard.AnnotationQuery]:
    """One annotation query for each phase. ``revealed``: under its true name."""
    for phase in PHASES:
        expr = f"{MILLISECONDS} * ({expressions.started(CHOSEN)} + {phase.begins:g} / $speed)"
        name = phase.revealed if revealed else phase.public
        yield (
            dashboard.AnnotationQuery()
            .name(name)
            .datasource(DATASOURCE)
            .enable(True)
            .icon_color(phase.color)
            .target(prometheus.Dataquery().expr(expr).ref_id("Phase").interval("10s").range())
            .use_value_for_time(True)
            .title_format(name)
            .text_format("{{pod}}")
        )


def variables(datasource_uid: str, speed: float) -> list[_Variable]:
    """The data source, the scrape job and its instances, and the lab's speed.

    With no choice made every instance of every job that exports `service_health_status` is shown.
    """
    return [
        dashboard.DatasourceVariable("datasource")
        .label("Data source")
        .type("prometheus")
        .current(model.VariableOption(text="Prometheus", value=datasource_uid)),
        choice("job", "Job", "label_values(service_health_status, job)"),
        choice("instance", "Instance", 'label_values(service_health_status{job=~"$job"}, instance)'),
        dashboard.ConstantVariable("speed").label("Speed of the story").value(f"{speed:g}"),
    ]


def choice(name: str, label: str, query: str, everything: str = ANY) -> dashboard.QueryVariable:
    """A variable with the values of a label, all of them at first; ``everything`` is the regex for all."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"qryType": 1, "query": query, "refId": f"variable-{name}"})
        .definition(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(everything)
        .current(model.VariableOption(text=["All"], value=["$__all"]))
    )


_Variable = dashboard.DatasourceVariable | dashboard.QueryVariable | dashboard.ConstantVariable
