"""Saved reports that somebody else wrote: what reads them says what is wrong in a line, and obeys nothing in them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.running import ESCAPES, FORGED, MIB, memleak_lab

pytestmark = pytest.mark.timeout(120)

FRAME = {"function": "f", "module": "m", "file": "/src/f.c", "line": 1, "offset": 16}
STACK = {
    "frames": [FRAME],
    "broken": False,
    "outstanding_bytes": 4096,
    "allocations": 1,
    "allocated_bytes": 4096,
    "frees": 0,
    "leak_ratio": 1.0,
    "leak_ratio_blocks": 1.0,
    "bytes_per_minute": 4096.0,
    "oldest_seconds": 1.0,
    "share_of_resident_growth": None,
}
MEMORY = ("resident_bytes_start", "resident_bytes_end", "anonymous_bytes_start", "anonymous_bytes_end")
PART = {"name": "anonymous", "bytes": 4096, "meaning": "m", "remedy": "r"}


def document(**changes: object) -> dict[str, Any]:
    return {
        "schema": "memleak-lab/report/1",
        "tool": {"name": "memleak-lab", "version": "1"},
        "kernel": "6",
        "machine": "m",
        "host": "h",
        "started": "2026-01-01T00:00:00+00:00",
        "options": {},
        "target": {"pid": 7, "command": "c"},
        "window_seconds": 60.0,
        "readings": 2,
        "stacks": [STACK],
        "truth": dict.fromkeys(MEMORY, 4096),
        "account": {"kinds": [PART], "anonymous": [], "huge_bytes": 0, "error_bytes": 0, "resident_bytes": 1},
        "lost": {},
        "notes": ["n"],
        "verdict": {"leak": True, "answer": "leak", "function": "f", "caller": "g", "summary": "s", "decides": ""},
        **changes,
    }


def with_texts(value: object, text: str) -> Any:  # noqa: ANN401 - what JSON holds
    """The same with another text in place of each but those that choose something."""
    if isinstance(value, dict):
        kept = ("schema", "started", "answer")
        return {name: each if name in kept else with_texts(each, text) for name, each in value.items()}
    if isinstance(value, list):
        return [with_texts(each, text) for each in value]
    return text if isinstance(value, str) else value


def saved(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("output", ["table", "json", "folded", "speedscope"])
def test_texts_that_a_terminal_obeys_are_shown_by_their_numbers(output: str, tmp_path: Path) -> None:
    file = saved(tmp_path / "a.json", json.dumps(with_texts(document(), f"x{FORGED}</script>")))
    result = memleak_lab("report", file, "--format", output, "--html", tmp_path / "a.html")
    result.check()
    assert "RIGHT: forged" in result.out
    page = (tmp_path / "a.html").read_text()
    assert not {char for char in ESCAPES if not char.isprintable() and char != "\n"} & set(page)
    assert page.count("</script>") == page.count("<script")


def test_a_comparison_shows_them_so_too(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.json", json.dumps(with_texts(document(), FORGED)))
    result = memleak_lab("report", file, file)
    result.check()
    assert "RIGHT: forged" in result.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 1_000_000, "nested too deeply"),
        ('{"a":' * 1_000_000, "nested too deeply"),
        ("[" + "[]," * 12_000_001 + "[]]", "values"),
        ("9" * 5_000, "digits"),
        (json.dumps(document(window_seconds=float("nan"))), "NaN"),
        (json.dumps(document()).replace("60.0", "1e999"), "finite"),
        (json.dumps(document(window_seconds=0)), "above 0"),
        (json.dumps(document(readings=10**400)), "60 bits"),
        (json.dumps(document(window_seconds=10**400)), "it must be within 1e+18 of 0"),
        (json.dumps(document(target={"pid": "7", "command": "c"})), "pid"),
        (json.dumps(document(target={"pid": 7, "command": "c", "x\x1b": 1})), "no 'x\\\\x1b'"),
        (json.dumps(document(stacks=[{**STACK, "frames": {}}])), "frames"),
        (json.dumps(document(stacks=[{**STACK, "outstanding_bytes": 1e308}])), "outstanding_bytes"),
        (json.dumps(document(notes="n")), "list"),
        (json.dumps(document(lost={"thread": []})), "whole number"),
        (json.dumps(document(account=[])), "object"),
        (json.dumps(document(options={"a": [[[]]]})), "text"),
        (json.dumps(document(started="9999-12-31T23:59:59-23:59")), "out of range"),
        (json.dumps(document(schema=[["x"] * 5])), "schema"),
        (json.dumps([]), "object"),
        ("", "is no report: it is empty: write one with"),
        ("\x00\xff", "no report"),
        (json.dumps(document(), indent=2)[:998], "is no report: it is cut off at line 50, column 9: write one with"),
        (json.dumps(document())[:40], "is no report: it is cut off at line 1, column "),
        ('{"schema" 1}', "is no report: it is no JSON at line 1, column 11: Expecting ':' delimiter"),
        (json.dumps(document(target={"pid": 7})), "is no report: Target lacks 'command'"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else None,
)
def test_what_is_no_report_is_refused_in_a_line(text: str, said: str, tmp_path: Path) -> None:
    result = memleak_lab("report", saved(tmp_path / "a.json", text))
    result.check(2)
    assert any(each in result.err for each in said.split("|")), result.err
    assert result.err.count("\n") == 1
    assert result.out == ""


@pytest.mark.parametrize("data", [b"\x1f\x8b\x08\x00\xff\xfe", b"{\xff}"])
def test_a_binary_file_is_no_text(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(data)
    result = memleak_lab("report", file)
    result.check(2)
    assert f"{file} is no report: it is no text: byte 1 is no UTF-8: write one with" in result.err


def test_a_pipe_a_device_and_a_file_without_end_are_not_waited_for(tmp_path: Path) -> None:
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    with large.open("w") as file:
        file.truncate(1 << 40)
    for path, said in ((pipe, "regular"), (Path("/dev/zero"), "regular"), (tmp_path, "regular"), (large, "larger")):
        result = memleak_lab("report", path)
        result.check(2)
        assert said in result.err


def test_many_stacks_are_read_and_drawn(tmp_path: Path) -> None:
    """GIVEN 20,000 stacks whose numbers are as large as they may be, THEN the page is small, and the table has five."""
    stacks = [{**STACK, "outstanding_bytes": 1 << 60, "frames": [{**FRAME, "line": n}] * 3} for n in range(20_000)]
    file = saved(tmp_path / "a.json", json.dumps(document(stacks=stacks)))
    result = memleak_lab("report", file, "--html", tmp_path / "a.html")
    result.check()
    assert result.out.count("outstanding,") == 5
    assert (tmp_path / "a.html").stat().st_size < 8 * MIB
