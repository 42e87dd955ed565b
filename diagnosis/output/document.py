"""A report as one JSON document."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diagnosis.faults.light import LightReport
    from diagnosis.lab.claims import ClaimsWindow
    from diagnosis.lab.ledger import LedgerWindow
    from diagnosis.report.report import Report


def report_as_json(report: Report, claims: ClaimsWindow | None = None, ledger: LedgerWindow | None = None) -> str:
    """The report, with a line end. ``claims`` and ``ledger`` are null for a process that has none."""
    fields = asdict(report)
    document = {
        **{name: fields.pop(name) for name in ("target", "window_seconds", "readings", "stacks")},
        "claims": asdict(claims) if claims else None,
        "truth": fields.pop("truth"),
        "ledger": asdict(ledger) if ledger else None,
        **fields,
        "verdict": {"leak": report.verdict.leak, **fields["verdict"]},
    }
    return _text(document)


def light_report_as_json(report: LightReport) -> str:
    """The report of ``trace --light``, with a line end."""
    fields = asdict(report)
    return _text({**fields, "verdict": {"leak": report.verdict.leak, **fields["verdict"]}})


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"
