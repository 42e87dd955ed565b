"""`memleak-lab verify`: a function's name and a saved report against a ledger."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from diagnosis.output.document import Capture, report_as_json
from tests.diagnosis.test_grade import BUSY, LEAKING, report
from tests.diagnosis.test_ledger import BODY, READING, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Command = Callable[..., tuple[int, str, str]]


# --- verify ---


@pytest.fixture
def ledger() -> Iterator[str]:
    with server(200, json.dumps(BODY).encode()) as url:
        yield url


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("catalog_cache_insert", "RIGHT: catalog_cache_insert leaked 2.00 MiB in 32 calls so far"),
        ("catalog_cache_refresh()", "RIGHT: catalog_cache_refresh forgets"),
        ("malloc", "WRONG: malloc is not the function that leaked 2.00 MiB"),
        ("[/red]", "WRONG: [/red] is not the function"),
        pytest.param("_ZN7catalog" + "5cacheI" * 50, "WRONG: _ZN7catalog", id="longer than a file's name can be"),
    ],
)
def test_the_name_of_a_function_is_right_or_wrong(memleak_lab: Command, ledger: str, answer: str, said: str) -> None:
    status, out, err = memleak_lab("verify", answer, "--ledger", ledger)
    assert (status, err) == (0 if "RIGHT" in said else 1, "")
    assert said in out


@pytest.mark.parametrize(("factor", "said"), [(1.1, "RIGHT"), (0.5, "WRONG by more than 20%")])
def test_a_report_is_right_or_wrong_by_its_rate(
    memleak_lab: Command, ledger: str, tmp_path: Path, factor: float, said: str
) -> None:
    rate = READING.leaked_bytes_per_minute * factor
    window = report().window_seconds
    # What was freed of before the window is not kept: it counts as in the proof of a fix.
    halves = [replace(LEAKING, outstanding_bytes=round(rate / 2 * window / 60) + 512, older_bytes=512)] * 2
    file = tmp_path / "report.json"
    file.write_text(report_as_json(Capture(report(*halves, BUSY))))
    status, out, err = memleak_lab("verify", str(file), "--ledger", ledger)
    assert (status, err) == (0 if said == "RIGHT" else 1, "")
    assert said in out


@pytest.mark.parametrize(
    "content", [None, "", "[]", "null", "{}", '{"verdict": {}}', '{"verdict": {"function": "f"}, "stacks": [1]}']
)
def test_a_file_that_is_no_report_is_one_line(
    memleak_lab: Command, ledger: str, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "report.json"
    if content is not None:
        file.write_text(content)
    status, out, err = memleak_lab("verify", str(file), "--ledger", ledger)
    assert (status, out) == (2, "")
    assert err.startswith(f"memleak-lab: {file} is no report: ")
    if content == "{}":
        assert f"{file} is no report: it has no 'schema': write one with" in err
    assert err.count("\n") == 1


def test_a_report_that_found_no_leak_has_no_answer_to_verify(memleak_lab: Command, ledger: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(report_as_json(Capture(report(BUSY, leak=False))))
    status, _, err = memleak_lab("verify", str(file), "--ledger", ledger)
    assert status == 2
    assert "names no function: it found no leak" in err


def test_a_ledger_that_does_not_answer_is_one_line(memleak_lab: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/ledger"
    status, out, err = memleak_lab("verify", "malloc", "--ledger", url)
    assert (status, out) == (2, "")
    assert err.startswith(f"memleak-lab: no ledger at {url}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["", "--line", "a.c:1"], "the answer is empty: name a report file"),
        (["malloc", "--line", "foo"], "--line is 'foo', which is no line of a file: write --line FILE:LINE"),
        (["none.json"], "none.json is no report: "),
        (["{report}", "--fixed", "none.json"], "none.json is no report: "),
    ],
)
def test_what_is_wrong_on_the_command_line_is_said_before_the_ledger_is_asked(
    memleak_lab: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    file = tmp_path / "before.json"
    file.write_text(report_as_json(Capture(report(LEAKING))))
    words = [str(file) if word == "{report}" else word for word in arguments]
    status, out, err = memleak_lab("verify", *words, "--ledger", "http://127.0.0.1:1/ledger")
    assert (status, out) == (2, "")
    assert said in err


def test_a_folder_with_the_name_of_the_answer_is_no_report(
    memleak_lab: Command, ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "malloc").mkdir()
    monkeypatch.chdir(tmp_path)
    status, out, _ = memleak_lab("verify", "malloc", "--ledger", ledger)
    assert (status, "WRONG: malloc is not the function" in out) == (1, True)


@pytest.mark.ebpf
def test_a_trace_says_why_its_ledger_is_left_out(memleak_lab: Command, ledger: str) -> None:
    """GIVEN a ledger that is never at rest, THEN the report has none, and the reason is said."""
    # No child of these tests: the command runs within them, and refuses what it started.
    started = ["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"]
    pid = subprocess.run(started, capture_output=True, text=True, check=True).stdout.strip()
    words = ("trace", "--pid", pid, "--duration", "1s", "--format", "json", "--ledger", ledger)
    status, out, err = memleak_lab(*words)
    os.kill(int(pid), signal.SIGKILL)
    assert status == 0
    assert json.loads(out)["ledger"] is None
    assert "the ledger is left out of the report: the ledger moved during each of " in err
