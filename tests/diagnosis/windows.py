"""Windows that a verdict is asked about, by what their sites held at each reading."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diagnosis.report.history import Evidence, SiteHistory
from diagnosis.report.site import CallSite
from diagnosis.report.verdict import Answer, find

if TYPE_CHECKING:
    from diagnosis.report.verdict import Doubt

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
WINDOW = 30.0
READINGS = 25


def site(*outstanding: float, function: str = "grow", **changes: Any) -> SiteHistory:  # noqa: ANN401
    """A site whose oldest block is as old as the window, and which keeps what it takes."""
    held = tuple(map(int, outstanding))
    kept = max(held) * 2 // 3
    return replace(SiteHistory(CallSite(function, "main"), held, 1000, 10, WINDOW, kept_bytes=kept), **changes)


STEADY = site(*(MIB * i for i in range(READINGS)))
FLAT = (0,) * READINGS


def window(*sites: SiteHistory, **changes: Any) -> Evidence:  # noqa: ANN401
    """A window in which the live heap and the memory of the process are what its sites hold."""
    total = tuple(map(sum, zip(*(each.outstanding for each in sites), strict=True))) or FLAT
    return replace(Evidence(WINDOW, sites, live=total, memory=total), **changes)


def answer(*sites: SiteHistory, **changes: Any) -> Answer:  # noqa: ANN401
    return find(window(*sites, **changes)).answer


def doubt(*sites: SiteHistory, **changes: Any) -> Doubt | None:  # noqa: ANN401
    found = find(window(*sites, **changes))
    assert found.answer is Answer.GROWING
    return found.judged[0].doubt
