"""A report as one JSON document: what `--format json` prints and `--save` keeps. `saved` reads it back.

The document is versioned: `report.schema.json` beside this file describes it. A field that is added keeps the version;
one that goes or changes its meaning raises it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diagnosis.faults.light import LightReport
    from diagnosis.lab.claims import ClaimsWindow
    from diagnosis.lab.grade import Grade
    from diagnosis.lab.ledger import LedgerWindow
    from diagnosis.report.report import Report

SCHEMA = "memleak-lab/report/1"
SCHEMA_FILE = Path(__file__).with_name("report.schema.json")


@dataclass(frozen=True)
class Origin:
    """Where a report comes from: the tool, the machine, when the command began (seconds of 1970), and its options."""

    version: str = ""
    kernel: str = ""
    machine: str = ""
    host: str = ""
    started: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Capture:
    """A report and where it comes from."""

    report: Report
    origin: Origin = Origin()


def report_as_json(
    capture: Capture,
    claims: ClaimsWindow | None = None,
    ledger: LedgerWindow | None = None,
    grade: Grade | None = None,
    *,
    everything: bool = False,
) -> str:
    """The report, with a line end.

    Args:
        capture: the report.
        claims: what the process claimed; null for one that claims nothing.
        ledger: what its ledger counted; null for one that has none.
        grade: whether the two agree; null where there is nothing to compare.
        everything: also the stacks that hold nothing.
    """
    fields = asdict(capture.report)
    if not everything:
        fields["stacks"] = [stack for stack in fields["stacks"] if stack["outstanding_bytes"] > 0]
    document = {
        **_head(capture.origin),
        **{name: fields.pop(name) for name in ("target", "window_seconds", "readings", "stacks")},
        "claims": asdict(claims) if claims else None,
        "truth": fields.pop("truth"),
        "ledger": asdict(ledger) if ledger else None,
        "grade": asdict(grade) if grade else None,
        **fields,
        "verdict": {"leak": capture.report.verdict.leak, **fields["verdict"]},
    }
    return _text(document)


def light_report_as_json(report: LightReport, origin: Origin = Origin()) -> str:
    """The report of ``trace --light``, with a line end."""
    fields = asdict(report)
    verdict = {"leak": report.verdict.leak, **fields["verdict"]}
    return _text({**_head(origin), "schema": "memleak-lab/light/1", **fields, "verdict": verdict})


def _head(origin: Origin) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "tool": {"name": "memleak-lab", "version": origin.version},
        "kernel": origin.kernel,
        "machine": origin.machine,
        "host": origin.host,
        "started": datetime.fromtimestamp(origin.started, UTC).isoformat(timespec="seconds"),
        "options": dict(origin.options),
    }


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"
