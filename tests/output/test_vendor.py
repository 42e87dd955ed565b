"""The libraries in a page are those that were published, and load nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts import vendor

if TYPE_CHECKING:
    from pathlib import Path


def test_the_libraries_are_those_of_their_readme_and_hold_no_address_to_load_from() -> None:
    assert list(vendor.problems()) == []


def test_a_library_that_was_changed_or_would_load_something_is_found(tmp_path: Path) -> None:
    for path in vendor.FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    script = tmp_path / "d3.min.js"
    script.write_text(script.read_text() + ';fetch("https://example.org/count")')
    assert list(vendor.problems(tmp_path)) == [
        "README.md is of other files or versions: make vendor",
        "d3.min.js holds the address https://example.org/count",
    ]
    script.unlink()
    assert list(vendor.problems(tmp_path)) == ["d3.min.js: missing: make vendor"]
