from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from scripts import package_map
from scripts.package_map import BOXES, COMMAND, FLOWS, PICTURE, Box, Flow, draw, problems

if TYPE_CHECKING:
    from pathlib import Path


def test_the_picture_is_of_this_code() -> None:
    assert problems() == []
    assert PICTURE.read_text() == draw(), f"it is out of date: {COMMAND}"


def test_the_picture_is_a_whole_svg_with_every_box_and_arrow() -> None:
    names = {element.text for element in ET.fromstring(draw()).iter() if element.tag.endswith("text")}
    assert {box.name for box in BOXES} <= names
    assert {f"{flow.what} ({flow.through})" if flow.through else flow.what for flow in FLOWS} <= names


@pytest.mark.parametrize(
    ("changed", "value", "found"),
    [
        (
            "FLOWS",
            (*FLOWS, Flow("service", "diagnosis.trace", "claims")),
            "service -> diagnosis.trace (claims): neither imports the other",
        ),
        ("BOXES", BOXES[1:], "catalog_cache is a package, and is not in the picture"),
        ("BOXES", (*BOXES, Box("diagnosis.magic", 0, 0)), "diagnosis.magic is in the picture, and is no package"),
    ],
)
def test_what_the_code_does_not_have_is_found(
    monkeypatch: pytest.MonkeyPatch, changed: str, value: object, found: str
) -> None:
    monkeypatch.setattr(package_map, changed, value)
    assert problems() == [found]


def test_a_picture_that_is_out_of_date_is_an_error_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    old = tmp_path / "packages.svg"
    old.write_text(draw().replace("diagnosis.trace", "diagnosis.tracing"))
    monkeypatch.setattr(package_map, "PICTURE", old)
    monkeypatch.setattr("sys.argv", ["package_map", "--check"])
    assert package_map.main() == 1
    assert capsys.readouterr().err == "packages.svg is out of date: make map\n"
