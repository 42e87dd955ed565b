"""A dashboard's frame, and the way from builders to the text of its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grafana.pace import Pace
from grafana.phases import marks, variables
from grafana.sdk import JSONEncoder, dashboard, model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.panels import Panel
    from grafana.sdk import text

TAG: Final = "memleak-lab"


@dataclass(frozen=True)
class Frame:
    """What makes a dashboard this one. ``revealed``: the phases are marked under their true names."""

    uid: str
    title: str
    description: str
    revealed: bool
    variables: Sequence[dashboard.QueryVariable] = ()
    links: Sequence[dashboard.DashboardLink] = ()


def frame(parts: Frame, panels: Sequence[Panel | text.Panel], datasource_uid: str, speed: float) -> dashboard.Dashboard:
    """The dashboard with its panels in reading order, left to right and top to bottom, under fixed ids from 1."""
    built = (
        dashboard.Dashboard(parts.title)
        .uid(parts.uid)
        .description(parts.description)
        .tags([TAG])
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .timezone("browser")
        .refresh("5s")
        .time(Pace(speed).time_range, "now")
        .variables([*variables(datasource_uid, speed), *parts.variables])
        .annotations(list(marks(revealed=parts.revealed)))
        .links(list(parts.links))
    )
    for at, panel in enumerate(panels, start=1):
        built.with_panel(panel.id(at))
    return built


class VisibleLink(dashboard.DashboardLink):
    """A link above the panels. The SDK hides every link in the menu of the dashboard's controls, and offers no else."""

    def build(self) -> model.DashboardLink:
        """The link without a placement, which Grafana takes for the usual place."""
        built = super().build()
        built.placement = None  # type: ignore[assignment]
        return built


def link(title: str, uid: str, panel: int | None = None) -> dashboard.DashboardLink:
    """A link to another dashboard of the lab, with the time and the choices made here, or to one panel of it."""
    return (
        VisibleLink(title)
        .type(model.DashboardLinkType.LINK)
        .url(f"/d/{uid}" if panel is None else page_url(uid, panel))
        .keep_time(True)
        .include_vars(panel is None)
    )


def page_url(uid: str, panel: int) -> str:
    """Where Grafana shows one panel of a dashboard, as large as the window."""
    return f"/d/{uid}?viewPanel=panel-{panel}"


def render(built: dashboard.Dashboard) -> str:
    """The bare model, without the ``{"dashboard": ...}`` wrapper that file provisioning refuses."""
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"
