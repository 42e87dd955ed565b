"""Claims against truth, as rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis.base.units import format_size

if TYPE_CHECKING:
    from diagnosis.lab.claims import ClaimsWindow
    from diagnosis.report.report import Report

HEADINGS = ("", "it claims", "the kernel knows")


def against(report: Report, claims: ClaimsWindow) -> list[tuple[str, str, str]]:
    """What is compared, what the service claims of it, and what the kernel knows."""
    truth, verdict = report.truth, report.verdict
    claimed_growth = claims.end.resident_bytes - claims.start.resident_bytes
    return [
        ("status", claims.end.status, "leaking" if verdict.leak else f"{verdict.answer}"),
        ("resident memory", format_size(claims.end.resident_bytes), format_size(truth.resident_bytes_end)),
        ("its growth in the window", format_size(claimed_growth), format_size(truth.growth)),
    ]
