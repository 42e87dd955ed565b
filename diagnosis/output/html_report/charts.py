"""The time lines of a page: claims against truth in a run, kept bytes against resident memory in a window."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnosis.lab.view import Moment
    from diagnosis.report.report import Report

# More points than this are wider than a page has pixels.
MOST_POINTS = 600


def story_charts(moments: Sequence[Moment]) -> list[dict[str, Any]]:
    """What the service claimed over the story's time, beside the kernel and the ledger; and how long a lookup took."""
    kept = moments[:: -(-len(moments) // MOST_POINTS)] if moments else ()
    if len(kept) < 2:
        return []
    statuses = sorted({moment.claims.status for moment in moments})
    marks = [
        {"at": after.story / 60, "text": after.phase}
        for before, after in itertools.pairwise(moments)
        if before.phase != after.phase
    ]
    tracing = [moment.story / 60 for moment in moments if moment.step == "tracing"]
    common = {
        "x": [moment.story / 60 for moment in kept],
        "axis": "minutes of the story",
        "marks": marks,
        "band": {"from": tracing[0], "to": tracing[-1], "text": "traced"} if tracing else None,
    }
    memory = _series(
        ("resident memory, as the kernel counts it", "truth", [moment.resident_bytes for moment in kept]),
        ("never freed, by the leaker's ledger", "ledger", [moment.ledger_bytes for moment in kept]),
        ("resident memory, as /health and /metrics claim it", "claim", [m.claims.resident_bytes for m in kept]),
    )
    lookups = _series(("mean time, by /metrics", "truth", [moment.claims.lookup_seconds * 1e3 for moment in kept]))
    said = f"/health said {' and '.join(statuses)} at each of {len(moments):,} readings."
    return [
        {**common, "title": "Resident memory", "unit": "bytes", "series": memory, "note": said},
        {**common, "title": "Lookups", "unit": "ms", "series": lookups, "note": ""},
    ]


def window_chart(report: Report) -> list[dict[str, Any]]:
    """Bytes outstanding beside the growth of resident memory, since the window's first reading."""
    points = report.timeline
    if len(points) < 2:
        return []
    resident = [point.resident_bytes - points[0].resident_bytes for point in points]
    return [
        {
            "title": "The traced window",
            "axis": "seconds",
            "unit": "bytes",
            "x": [point.seconds for point in points],
            "marks": [],
            "band": None,
            "note": f"{len(points)} readings. Both lines begin at 0: what was there before the trace is not in them.",
            "series": _series(
                ("growth of resident memory, as the kernel counts it", "truth", resident),
                ("taken and kept, as the trace counts it", "ledger", [point.outstanding_bytes for point in points]),
            ),
        }
    ]


def _series(*series: tuple[str, str, list[float] | list[int]]) -> list[dict[str, Any]]:
    return [{"name": name, "kind": kind, "values": values} for name, kind, values in series]
