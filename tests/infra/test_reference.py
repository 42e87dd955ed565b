"""The tables in docs/ are what the program says of itself."""

from __future__ import annotations

from dataclasses import fields

import pytest

from infra.outputs import ABOUT, LabOutputs
from infra.reference import DOCUMENTS, ROOT, blocks, fill, marks
from infra.settings import DEFAULTS


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_documents_tables_are_those_that_would_be_written(document: str) -> None:
    text = (ROOT / document).read_text()
    assert fill(text, blocks()) == text, "make reference"


def test_every_table_has_its_place() -> None:
    assert set().union(*(marks((ROOT / name).read_text()) for name in DOCUMENTS)) == set(blocks())


def test_every_setting_and_every_output_is_in_its_table() -> None:
    assert all(f"| `{key}` |" in blocks()["configuration"] for key in DEFAULTS)
    assert list(ABOUT) == [field.name for field in fields(LabOutputs)]
    assert all(f"| `{name}` |" in blocks()["outputs"] for name in ABOUT)


def test_a_changed_table_is_noticed() -> None:
    text = (ROOT / "docs" / "INSTALL.md").read_text()
    assert fill(text.replace("| `speed` | `1` |", "| `speed` | `2` |"), blocks()) == text
