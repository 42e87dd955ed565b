"""A dashboard as a person sees it: each panel's values with their unit, on the colour of their threshold.

It reads the rendered JSON, fills in what Grafana fills in, asks Prometheus what the panel would ask, and applies value
mappings, thresholds and units as Grafana does.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.prometheus import Prometheus, Sample

NO_DATA = "no data"
_DURATION = re.compile(r"(\d+)([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_STEPS = {
    "bytes": (1024, ("B", "KiB", "MiB", "GiB", "TiB")),
    "binBps": (1024, ("B/s", "KiB/s", "MiB/s", "GiB/s", "TiB/s")),
}
_TIMES = (("days", 86400.0), ("hours", 3600.0), ("mins", 60.0), ("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
_SUFFIXES = {"percent": "%", "reqps": " req/s", "ops": " ops/s", "none": ""}


@dataclass(frozen=True)
class Shown:
    """One value of a panel: its series' name, what is read, the colour behind it, and the number itself."""

    name: str
    text: str
    color: str
    value: float


@dataclass(frozen=True)
class Target:
    """One query of a panel, with everything filled in."""

    panel: str
    ref: str
    expr: str
    instant: bool
    legend: str


@dataclass(frozen=True)
class View:
    """The window in which a dashboard is looked at: its choices, how wide it is, how often Prometheus scrapes."""

    choices: Mapping[str, str]
    range_seconds: int = 300
    scrape_seconds: int = 1
    points: int = 1000

    def fill(self, expr: str, least_interval: str = "") -> str:
        """The expression with Grafana's own variables and the dashboard's choices in place."""
        interval = max(math.ceil(self.range_seconds / self.points), self.scrape_seconds, seconds(least_interval))
        rate_interval = max(interval + self.scrape_seconds, 4 * self.scrape_seconds)
        filled = {
            "__rate_interval": f"{rate_interval}s",
            "__interval": f"{interval}s",
            "__range": f"{self.range_seconds}s",
            **self.choices,
        }

        def value(match: re.Match[str]) -> str:
            return filled[match["braced"] or match["bare"]]

        return re.sub(r"\$(?:\{(?P<braced>\w+)\}|(?P<bare>\w+))", value, expr)


class Screen:
    """A dashboard on the screen."""

    def __init__(self, dashboard: str, prometheus: Prometheus, view: View) -> None:
        self.model: dict[str, Any] = json.loads(dashboard)
        self._prometheus = prometheus
        self.view = view
        self._panels = {panel["title"]: panel for panel in self.model["panels"]}

    @property
    def titles(self) -> list[str]:
        return list(self._panels)

    def targets(self) -> Iterator[Target]:
        """Every query of every panel."""
        for title, panel in self._panels.items():
            for target in panel.get("targets", ()):
                yield Target(
                    title,
                    target["refId"],
                    self.view.fill(target["expr"], target.get("interval", "")),
                    target["instant"],
                    target.get("legendFormat", ""),
                )

    def marks(self, at: float) -> dict[str, list[float]]:
        """The annotations that the marks' queries put on the time axis: name to seconds since 1970."""
        return {
            mark["name"]: [
                sample.value / 1000 for sample in self._prometheus.instant(self.view.fill(mark["target"]["expr"]), at)
            ]
            for mark in self.model["annotations"]["list"]
        }

    def show(self, title: str, at: float) -> list[Shown]:
        """What the panel reads at a moment. A chart is read by its legend: the last value of each line."""
        panel = self._panels[title]
        return [
            self._shown(panel, target, sample)
            for target in self.targets()
            if target.panel == title
            for sample in self._prometheus.instant(target.expr, at)
        ]

    def colors(self, at: float) -> dict[str, set[str]]:
        """The colours on each panel that shows numbers."""
        return {
            title: {shown.color for shown in self.show(title, at)} or {NO_DATA}
            for title, panel in self._panels.items()
            if panel["type"] == "stat"
        }

    def _shown(self, panel: Mapping[str, Any], target: Target, sample: Sample) -> Shown:
        defaults = panel["fieldConfig"]["defaults"]
        name = re.sub(r"\{\{(\w+)\}\}", lambda match: sample.labels.get(match[1], ""), target.legend).strip()
        for mapping in defaults["mappings"]:
            if mapping["type"] == "special" and math.isnan(sample.value):
                return Shown(name, mapping["options"]["result"]["text"], NO_DATA, sample.value)
            if mapping["type"] == "value" and (word := mapping["options"].get(f"{sample.value:g}")):
                return Shown(name, word["text"], word["color"], sample.value)
        steps = defaults["thresholds"]["steps"]
        color = [step["color"] for step in steps if step["value"] is None or sample.value >= step["value"]][-1]
        return Shown(name, written(sample.value, defaults["unit"]), color, sample.value)


def written(value: float, unit: str) -> str:
    """A value as Grafana writes it, to three figures."""
    if unit in _STEPS:
        base, names = _STEPS[unit]
        step = min(len(names) - 1, int(math.log(max(abs(value), 1), base)))
        return f"{value / base**step:.3g} {names[step]}"
    if unit == "s":
        name, length = next(((name, length) for name, length in _TIMES if abs(value) >= length), _TIMES[-1])
        return f"{value / length:.3g} {name}"
    if unit == "percentunit":
        return f"{100 * value:.3g}%"
    return f"{value:.3g}{_SUFFIXES[unit]}"


def seconds(duration: str) -> int:
    """A duration in Prometheus' notation; an empty one is 0."""
    return sum(int(number) * _SECONDS[unit] for number, unit in _DURATION.findall(duration))
