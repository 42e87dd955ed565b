"""The picture of a run, as bytes: who writes them says where, and through which links."""

from __future__ import annotations

from pathlib import Path

import pytest

from diagnosis.lab.chart import draw_chart
from diagnosis.report.report import Report, ResidentMemory, Target
from diagnosis.report.summary import Verdict
from diagnosis.report.verdict import Answer

pytest.importorskip("matplotlib")

REPORT = Report(
    Target(7, "service"), 10.0, 2, (), ResidentMemory(0, 0, 0, 0), None, {}, (), Verdict(Answer.NO_LEAK, "", "", "")
)


@pytest.mark.parametrize(("name", "begins"), [("a.svg", b"<?xml"), ("a.png", b"\x89PNG")])
def test_the_kind_is_that_of_the_file_s_name_and_nothing_is_written(
    name: str, begins: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert draw_chart(Path(name), [], REPORT).startswith(begins)
    assert draw_chart(Path(name), [], REPORT) == draw_chart(Path(name), [], REPORT)
    assert list(tmp_path.iterdir()) == []
