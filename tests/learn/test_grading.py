"""`verify` grades each part of an answer by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from diagnosis.lab.ledger import Reading
from diagnosis.learn import grading
from diagnosis.learn.catalog import leaking_line
from diagnosis.learn.grading import Given, answer_of_report, grade_answer, grades_as_json
from diagnosis.output.document import Capture, report_as_json
from diagnosis.report.verdict import Answer
from diagnosis.target.symbols import Frame
from tests.learn.test_proof import BEFORE, FUNCTION, report, stack

if TYPE_CHECKING:
    from diagnosis.report.report import Report

CALLER = "catalog_cache_refresh"
PLACE = f"catalog_cache.c:{leaking_line()}"
MIB = 1 << 20
# Ten minutes at speed 1, with 100 MiB a minute.
READING = Reading(16_000, 0, 1000 * MIB, 16_000, 1000 * MIB, 1000, 600.0, "leaking", 1.0, 65_536, 2000 * MIB, ())


def grades(given: Given) -> dict[str, bool]:
    return {each.part: each.grade.right for each in grade_answer(given, READING)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Given(FUNCTION), {"function": True}),
        (Given("malloc"), {"function": False}),
        (Given(FUNCTION, CALLER, PLACE), {"function": True, "caller": True, "line": True}),
        (Given(FUNCTION, "main", PLACE), {"function": True, "caller": False, "line": True}),
        (Given(CALLER, "catalog_cache_worker"), {"function": True, "caller": True}),
        (Given(CALLER, CALLER), {"function": True, "caller": False}),
        (Given(FUNCTION, "catalog_cache_worker"), {"function": True, "caller": False}),
        (Given("malloc", FUNCTION), {"function": False, "caller": False}),
        (Given(FUNCTION, CALLER, "catalog_cache.c:1"), {"function": True, "caller": True, "line": False}),
        (Given(FUNCTION, CALLER, "other.c:82"), {"function": True, "caller": True, "line": False}),
        (Given(FUNCTION, CALLER, "line 82"), {"function": True, "caller": True, "line": False}),
        (Given(FUNCTION, line=f"./src/{PLACE}"), {"function": True, "line": True}),
        (Given(FUNCTION, rate=110.0 * MIB), {"function": True, "bytes": True}),
        (Given(FUNCTION, rate=150.0 * MIB), {"function": True, "bytes": False}),
    ],
)
def test_each_part_has_a_grade_of_its_own(given: Given, expected: dict[str, bool]) -> None:
    assert grades(given) == expected


def with_places(found: Report) -> Report:
    frames = tuple(Frame(name, "lib.so", "./src/catalog_cache.c", leaking_line(), 0) for name in (FUNCTION, CALLER))
    stacks = tuple(replace(each, frames=frames) for each in found.stacks[:1])
    return replace(found, stacks=stacks, verdict=replace(found.verdict, function=FUNCTION, caller=CALLER))


def saved(path: Path, found: Report) -> Path:
    path.write_text(report_as_json(Capture(found), everything=True))
    return path


def test_a_report_answers_every_part(tmp_path: Path) -> None:
    given = answer_of_report(saved(tmp_path / "report.json", with_places(BEFORE)))
    assert given == Given(FUNCTION, CALLER, PLACE, 100.0 * MIB)
    assert grades(given) == dict.fromkeys(("function", "bytes", "caller", "line"), True)


@pytest.mark.parametrize(
    ("after", "right", "said"),
    [
        (report(Answer.NO_LEAK, growth=0), True, "RIGHT: the fix holds: 100 MiB a minute before, 0 B after"),
        (report(Answer.LEAK, stack(FUNCTION, 50), growth=50), False, "WRONG: it still leaks, 50% of what it did"),
        (report(Answer.LEAK, stack("other", 50), growth=50), False, "WRONG: another place leaks"),
    ],
)
def test_whether_a_fix_holds_is_a_part_as_well(tmp_path: Path, after: Report, right: bool, said: str) -> None:
    before = saved(tmp_path / "before.json", with_places(BEFORE))
    parts = grade_answer(answer_of_report(before), READING, (before, saved(tmp_path / "after.json", after)))
    assert parts[-1].part == "fix"
    assert parts[-1].grade.right is right
    assert parts[-1].grade.text.startswith(said)


def test_the_grades_are_one_document_for_a_teacher_s_list() -> None:
    document = json.loads(grades_as_json(grade_answer(Given(FUNCTION, "main"), READING), READING))
    assert document["schema"] == "memleak-lab/grade/1"
    assert document["right"] is False
    assert [(part["part"], part["right"]) for part in document["parts"]] == [("function", True), ("caller", False)]
    assert document["ledger"]["insert_bytes"] == 1000 * MIB


def test_a_part_without_a_grade_makes_the_document_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "SOURCE", Path("/none/catalog_cache.c"))
    document = json.loads(grades_as_json(grade_answer(Given(FUNCTION, line=PLACE), READING), READING))
    assert (document["right"], [part["right"] for part in document["parts"]]) == (True, [True, None])


def test_a_fix_of_a_function_s_name_cannot_be_graded(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("memleak-lab")), "verify", FUNCTION, "--fixed", str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "memleak-lab: --fixed compares two reports: memleak-lab verify BEFORE.json --fixed AFTER.json\n"
    )
