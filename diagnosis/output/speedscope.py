"""A report as a file of speedscope: bytes outstanding by call stack, the outermost function first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from diagnosis.output.folded import short_command

if TYPE_CHECKING:
    from diagnosis.output.document import Capture
    from diagnosis.target.symbols import Frame

SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def speedscope(capture: Capture) -> str:
    """The file, with a line end: one profile, whose weights are bytes."""
    report = capture.report
    places: dict[tuple[str, str, int], int] = {}

    def place(frame: Frame) -> int:
        return places.setdefault((frame.name, frame.file or frame.module, frame.line), len(places))

    held = [stack for stack in report.stacks if stack.outstanding_bytes > 0]
    samples = [[place(frame) for frame in reversed(stack.frames)] for stack in held]
    weights = [stack.outstanding_bytes for stack in held]
    name = f"{short_command(report.target)} (pid {report.target.pid}), bytes outstanding"
    profile = {
        "type": "sampled",
        "name": name,
        "unit": "bytes",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }
    document = {
        "$schema": SCHEMA,
        "shared": {"frames": [_frame(*each) for each in places]},
        "profiles": [profile],
        "name": name,
        "activeProfileIndex": 0,
        "exporter": f"memleak-lab {capture.origin.version}",
    }
    return json.dumps(document) + "\n"


def _frame(name: str, file: str, line: int) -> dict[str, Any]:
    return {"name": name, **({"file": file} if file else {}), **({"line": line} if line else {})}
