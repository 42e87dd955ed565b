"""A report as one JSON document, and back: what `--format json` prints and `--save` keeps.

The document is versioned: `report.schema.json` beside this file describes it. A field that is added keeps the version;
one that goes or changes its meaning raises it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnosis.base.errors import LabError
from diagnosis.report.account import Account, Part
from diagnosis.report.report import Report, ResidentMemory, StackReport, Target
from diagnosis.report.summary import Verdict
from diagnosis.report.timeline import TimelinePoint
from diagnosis.report.verdict import Answer
from diagnosis.target.symbols import Frame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diagnosis.faults.light import LightReport
    from diagnosis.lab.claims import ClaimsWindow
    from diagnosis.lab.grade import Grade
    from diagnosis.lab.ledger import LedgerWindow

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


def read_capture(path: Path) -> Capture:
    """A report that was saved.

    Raises:
        LabError: the file cannot be read, is no report, or is one of another version.
    """
    remedy = "write one with: memleak-lab trace --save FILE.json ..."
    try:
        document = json.loads(path.read_text())
        found = document["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(f"{path} is no report: {error}", remedy) from error
    if found != SCHEMA:
        raise LabError(f"{path} is {found!r}, and this version reads {SCHEMA!r}", remedy)
    try:
        return _capture(document)
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"{path} is no report: {type(error).__name__}: {error}", remedy) from error


def _capture(document: Mapping[str, Any]) -> Capture:
    verdict = {name: value for name, value in document["verdict"].items() if name != "leak"}
    return Capture(
        Report(
            target=Target(**document["target"]),
            window_seconds=float(document["window_seconds"]),
            readings=int(document["readings"]),
            stacks=tuple(_stack(stack) for stack in document["stacks"]),
            truth=ResidentMemory(**document["truth"]),
            account=_account(document["account"]) if document["account"] else None,
            lost=dict(document["lost"]),
            notes=tuple(document["notes"]),
            verdict=Verdict(**{**verdict, "answer": Answer(verdict["answer"])}),
            # Reports of earlier versions have none.
            timeline=tuple(TimelinePoint(**point) for point in document.get("timeline", ())),
        ),
        Origin(
            document["tool"]["version"],
            document["kernel"],
            document["machine"],
            document["host"],
            datetime.fromisoformat(document["started"]).timestamp(),
            document["options"],
        ),
    )


def _stack(fields: Mapping[str, Any]) -> StackReport:
    return StackReport(**{**fields, "frames": tuple(Frame(**frame) for frame in fields["frames"])})


def _account(fields: Mapping[str, Any]) -> Account:
    parts = {name: tuple(Part(**part) for part in fields[name]) for name in ("kinds", "anonymous")}
    return Account(**{**fields, **parts})
