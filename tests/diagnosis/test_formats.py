from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import ValidationError, validate
from rich.console import Console

from diagnosis.base.errors import LabError
from diagnosis.output.comparison import print_comparison
from diagnosis.output.document import SCHEMA_FILE, Capture, Origin, report_as_json
from diagnosis.output.folded import folded
from diagnosis.output.pprof import pprof, profile_class
from diagnosis.output.saved import read_capture
from diagnosis.output.speedscope import speedscope
from diagnosis.report.account import Traced, account
from diagnosis.target.memory import Memory
from diagnosis.target.symbols import Frame
from tests.diagnosis.test_grade import report, stack

if TYPE_CHECKING:
    from pathlib import Path

LEAK = stack(4096, 4, "cache_insert", "cache_refresh", "main")
SMALL = stack(512, 8, "render", "main")
FREED = replace(stack(0, 100, "parse", "main"), allocated_bytes=9000, frees=100)

ORIGIN = Origin("0.1.0", "6.12.1", "x86_64", "host", 1_800_000_000.0, {"duration": 30.0})
ACCOUNT = account(Memory(anonymous=4096), Memory(anonymous=8192, file=4096), Traced(4096, 0))
CAPTURE = Capture(replace(report(LEAK, SMALL, FREED, function="cache_insert"), account=ACCOUNT), ORIGIN)
SCHEMA: dict[str, Any] = json.loads(SCHEMA_FILE.read_text())

# What speedscope's published schema (https://www.speedscope.app/file-format-schema.json) asks of a sampled profile.
SPEEDSCOPE_SCHEMA = {
    "type": "object",
    "required": ["$schema", "profiles", "shared"],
    "properties": {
        "$schema": {"const": "https://www.speedscope.app/file-format-schema.json"},
        "activeProfileIndex": {"type": "number"},
        "exporter": {"type": "string"},
        "name": {"type": "string"},
        "profiles": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["endValue", "name", "samples", "startValue", "type", "unit", "weights"],
                "properties": {
                    "type": {"const": "sampled"},
                    "name": {"type": "string"},
                    "unit": {"enum": ["bytes", "microseconds", "milliseconds", "nanoseconds", "none", "seconds"]},
                    "startValue": {"type": "number"},
                    "endValue": {"type": "number"},
                    "samples": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
                    "weights": {"type": "array", "items": {"type": "number"}},
                },
            },
        },
        "shared": {
            "type": "object",
            "required": ["frames"],
            "properties": {
                "frames": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "file": {"type": "string"},
                            "line": {"type": "number"},
                            "col": {"type": "number"},
                        },
                    },
                }
            },
        },
    },
}


# --- JSON, and back ---


def test_a_saved_report_is_the_report(tmp_path: Path) -> None:
    file = tmp_path / "before.json"
    file.write_text(report_as_json(CAPTURE, everything=True))
    assert read_capture(file) == CAPTURE


def test_the_document_says_where_it_comes_from_and_has_its_schema() -> None:
    document = json.loads(report_as_json(CAPTURE))
    validate(document, SCHEMA)
    assert document["schema"] == SCHEMA["title"] == "memleak-lab/report/1"
    assert document["tool"] == {"name": "memleak-lab", "version": "0.1.0"}
    assert (document["kernel"], document["host"]) == ("6.12.1", "host")
    assert document["started"] == "2027-01-15T08:00:00+00:00"
    assert document["options"] == {"duration": 30.0}


@pytest.mark.parametrize("path", [("verdict", "answer"), ("stacks", 0, "leak_ratio"), ("account", "kinds"), ("tool",)])
def test_the_schema_misses_what_is_missing(path: tuple[str | int, ...]) -> None:
    document = json.loads(report_as_json(CAPTURE))
    holder: Any = document
    for step in path[:-1]:
        holder = holder[step]
    del holder[path[-1]]
    with pytest.raises(ValidationError):
        validate(document, SCHEMA)


def test_stacks_that_hold_nothing_are_left_out_unless_everything_is_wanted() -> None:
    assert len(json.loads(report_as_json(CAPTURE))["stacks"]) == 2
    assert len(json.loads(report_as_json(CAPTURE, everything=True))["stacks"]) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no report: it is empty"),
        ("[]", "is no report"),
        ('{"schema": "memleak-lab/report/0"}', "is 'memleak-lab/report/0', and this version reads"),
        ('{"schema": "memleak-lab/report/1"}', "is no report: it has no 'verdict'"),
    ],
)
def test_a_file_that_is_no_report_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(text)
    with pytest.raises(LabError) as error:
        read_capture(file)
    assert said in str(error.value)
    assert "--save" in error.value.remedy


def test_a_report_of_a_later_version_wants_a_later_program(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text('{"schema": "memleak-lab/report/7"}')
    with pytest.raises(LabError, match="is 'memleak-lab/report/7', and this version reads") as error:
        read_capture(file)
    assert error.value.remedy == "update memleak-lab, or read it with the one that wrote it"


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"none.json is no report: No such file or directory: write one"):
        read_capture(tmp_path / "none.json")


# --- folded ---


def test_identical_lines_are_one() -> None:
    first = Frame("f;1", "m", "m.c", 1, 10)
    lines = list(folded(CAPTURE.report.target, [((first,), 5), ((Frame("g", "m", "", 0, 3),), 9), ((first,), 7)]))
    assert lines == ["python;f:1 12", "python;g 9"]


def test_python_functions_have_their_place() -> None:
    frame = Frame("Kind.method", "python3.11", "/srv/app.py", 7, 0, python=True)
    assert list(folded(CAPTURE.report.target, [((frame,), 5)])) == ["python;Kind.method (app.py:7) 5"]


# --- pprof ---


def parsed() -> Any:  # noqa: ANN401 - made at run time
    profile = profile_class()()
    profile.ParseFromString(gzip.decompress(pprof(CAPTURE)))
    return profile


def test_the_profile_has_what_a_heap_profile_of_go_has() -> None:
    profile = parsed()
    text = profile.string_table
    assert text[0] == ""
    assert [(text[each.type], text[each.unit]) for each in profile.sample_type] == [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ]
    assert text[profile.default_sample_type] == "inuse_space"
    assert [list(sample.value) for sample in profile.sample] == [
        [4, 4096, 4, 4096],
        [8, 512, 8, 512],
        [100, 9000, 0, 0],
    ]
    names = {each.id: text[each.name] for each in profile.function}
    lines = {each.id: names[each.line[0].function_id] for each in profile.location}
    assert [lines[place] for place in profile.sample[0].location_id] == ["cache_insert", "cache_refresh", "main"]
    assert profile.time_nanos == 1_800_000_000 * 10**9
    assert profile.duration_nanos == 10 * 10**9


def test_go_reads_the_profile(tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    file = tmp_path / "heap.pb.gz"
    file.write_bytes(pprof(CAPTURE))
    environment = {**os.environ, "GOTOOLCHAIN": "local"}  # what is there, and nothing from elsewhere
    done = subprocess.run(
        [go, "tool", "pprof", "-top", str(file)],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "Type: inuse_space" in done.stdout
    top = [line.split() for line in done.stdout.splitlines() if "cache_insert" in line]
    assert top[0][0] == "4096B"


# --- speedscope ---


def test_the_file_is_one_of_speedscope_s() -> None:
    document = json.loads(speedscope(CAPTURE))
    validate(document, SPEEDSCOPE_SCHEMA)
    (profile,) = document["profiles"]
    assert profile["weights"] == [4096, 512]
    assert profile["endValue"] == 4608
    names = [frame["name"] for frame in document["shared"]["frames"]]
    assert [[names[place] for place in sample] for sample in profile["samples"]] == [
        ["main", "cache_refresh", "cache_insert"],
        ["main", "render"],
    ]


# --- two reports ---


def test_two_reports_are_compared_by_call_site() -> None:
    fixed = Capture(report(replace(SMALL, outstanding_bytes=1024), leak=False), ORIGIN)
    console = Console(width=120)
    with console.capture() as captured:
        print_comparison(console, CAPTURE, fixed)
    lines = [" ".join(line.replace("│", " ").split()) for line in captured.get().splitlines()]
    assert "cache_insert < cache_refresh 24.0 KiB 0 B -24.0 KiB" in lines
    assert "render < main 3.00 KiB 6.00 KiB +3.00 KiB" in lines
    assert lines.index("cache_insert < cache_refresh 24.0 KiB 0 B -24.0 KiB") < lines.index(
        "render < main 3.00 KiB 6.00 KiB +3.00 KiB"
    )
    assert any(line.startswith("after (pid 17, 10s):") for line in lines)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [(7300.0, 100.0, True), (100.0, 7300.0, False), (100.0, 100.0, False), (9.0, 0.0, False)],
)
def test_a_change_that_is_shown_backwards_is_said(first: float, second: float, said: bool) -> None:
    before, after = (Capture(CAPTURE.report, replace(ORIGIN, started=started)) for started in (first, second))
    console = Console(width=120)
    with console.capture() as captured:
        print_comparison(console, before, after)
    note = (
        "The first report is 2h 00m younger than the second: the change is shown backwards. Name the older one first."
    )
    assert (note in " ".join(captured.get().split())) is said
