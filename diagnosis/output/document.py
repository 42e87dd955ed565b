"""A report as one JSON document."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diagnosis.lab.claims import ClaimsWindow
    from diagnosis.lab.ledger import LedgerWindow
    from diagnosis.report.report import Report


def report_as_json(report: Report, claims: ClaimsWindow | None = None, ledger: LedgerWindow | None = None) -> str:
    """The report, with a line end. ``claims`` and ``ledger`` are null for a process that has none."""
    fields = asdict(report)
    document = {
        **{name: fields.pop(name) for name in ("target", "window_seconds", "stacks")},
        "claims": asdict(claims) if claims else None,
        "truth": fields.pop("truth"),
        "ledger": asdict(ledger) if ledger else None,
        **fields,
    }
    return json.dumps(document, indent=2) + "\n"
