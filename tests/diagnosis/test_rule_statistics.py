"""How often the verdict is wrong. The bounds are the ones that docs/DIAGNOSIS.md gives, rounded up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from diagnosis.cli.status import STATUSES
from diagnosis.report.verdict import Answer
from tests.diagnosis.rule_statistics import LEAKING, SOUND, answers, bursts, covered, one_burst, random_walk, table

if TYPE_CHECKING:
    from tests.diagnosis.rule_statistics import Kind


@pytest.mark.parametrize("kind", SOUND, ids=lambda kind: kind.make.__name__)
def test_few_windows_without_a_leak_are_called_one(kind: Kind) -> None:
    allowed = 0.01 if kind.make is random_walk else 0.001
    assert answers(kind)[Answer.LEAK] <= allowed * kind.tries


@pytest.mark.parametrize("kind", LEAKING, ids=lambda kind: kind.make.__name__)
def test_no_growth_that_goes_on_gets_the_all_clear(kind: Kind) -> None:
    found = answers(kind)
    assert found[Answer.NO_LEAK] == 0
    assert found[Answer.LEAK] >= (0 if kind.make in {bursts, covered, one_burst} else 0.99 * kind.tries)


def test_the_table_in_the_documentation_is_what_the_command_prints() -> None:
    """`python -m tests.diagnosis.rule_statistics` prints it."""
    assert table() in (Path(__file__).parents[2] / "docs" / "DIAGNOSIS.md").read_text()


def test_the_exit_statuses_in_the_documentation_are_the_command_s() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "DIAGNOSIS.md").read_text().split())
    for status, meaning in STATUSES.items():
        assert f"| {status} | {meaning} |" in text
