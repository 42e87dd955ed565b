"""Rules as typed records, and the YAML that Prometheus reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Recording:
    """A series that Prometheus keeps beside those it scrapes, so that panels and alerts share one costly expression."""

    record: str
    expr: str

    def document(self) -> dict[str, object]:
        """The rule as Prometheus reads it."""
        return {"record": self.record, "expr": self.expr}


@dataclass(frozen=True)
class Alert:
    """A condition that must hold for a while before anyone is told.

    ``hold`` is a duration in Prometheus' notation; ``team`` says whose alert it is.
    """

    name: str
    expr: str
    hold: str
    team: str
    severity: str
    summary: str
    description: str

    def document(self) -> dict[str, object]:
        """The rule as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.hold,
            "labels": {"team": self.team, "severity": self.severity},
            "annotations": {"summary": self.summary, "description": self.description},
        }


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated together and in order, at an interval in Prometheus' notation."""

    name: str
    interval: str
    rules: Sequence[Recording | Alert]

    def document(self) -> dict[str, object]:
        """The group as Prometheus reads it."""
        return {"name": self.name, "interval": self.interval, "rules": [rule.document() for rule in self.rules]}


def render(*groups: Group) -> str:
    """The text of one rule file."""
    return yaml.safe_dump({"groups": [group.document() for group in groups]}, sort_keys=False, width=1000)
