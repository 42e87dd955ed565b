from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from diagnosis.base.errors import LabError
from diagnosis.cli import main as cli
from diagnosis.cli import run as cli_run
from diagnosis.cli.signals import stop_on_signals
from diagnosis.cli.status import STATUSES
from diagnosis.lab.claims import Claims, ClaimsWindow
from diagnosis.lab.grade import Grade
from diagnosis.lab.run import Outcome
from diagnosis.output.tables import print_grade
from diagnosis.report.lost import UNCOUNTED
from tests.diagnosis.command import machine
from tests.diagnosis.test_grade import BUSY, LEAKING, LEDGER, report

if TYPE_CHECKING:
    from collections.abc import Callable

    from diagnosis.doctor.preflight import Machine
    from diagnosis.lab.run import RunOptions

    Command = Callable[..., tuple[int, str, str]]


CLAIMS = Claims("healthy", "All systems operational.", 0.6, 1 << 25, {}, 0.001)
CLAIMS_WINDOW = ClaimsWindow(CLAIMS, CLAIMS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("run --speed 0", "--speed is 0: it must be 0.1 to 1000: try --speed 60"),
        ("run --speed 1001", "--speed is 1001: it must be 0.1 to 1000"),
        ("run --speed nan", "--speed is nan: it must be 0.1 to 1000"),
        ("run --speed fast", "'--speed': 'fast' is no number"),
        ("run --chunk 3", "--chunk is 3: it must be 4KiB to 1MiB, a divisor of 1MiB: try --chunk 64KiB"),
        ("run --chunk 3KiB", "--chunk is 3KiB: it must be 4KiB to 1MiB"),
        ("run --chunk 5000", "--chunk is 5000: it must be 4KiB to 1MiB, a divisor of 1MiB"),
        ("run --chunk 2MiB", "--chunk is 2MiB: it must be 4KiB to 1MiB"),
        ("run --chunk small", "'small' is no size: write bytes"),
        ("run --cap -1", "'-1' is no size"),
        (
            "run --speed 600 --duration 1m --cap 200MiB --window 5s",
            "the leak comes to 378 MiB .* --window 2s, or --cap 416",
        ),
        ("run --speed 600 --duration 1h --cap 200MiB", "--cap is 200 MiB: .* --cap 1316MiB, or a shorter --duration"),
        ("run --cap 65GiB", "--cap is 65GiB: it must be 0 to 64GiB: try --cap 2000MiB"),
        ("run --window 0", "--window is 0 s: it must be from 1 to 86400 s"),
        ("run --window 0.5s", "--window is 0.5 s"),
        ("run --window 25h", "--window is 90000 s"),
        ("run --window soon", "'soon' is no duration"),
        ("run --speed 1", "--window is 10 s: at speed 1 the leak grows every 8 s, .* --window 32s"),
        ("run --speed 10 --window 3s", "--window is 3 s: at speed 10 the leak grows every 0.8 s, .* --window 3.2s"),
        ("run --duration 9e9", "'9e9' is no duration"),
        (f"run --cap {'9' * 400}", "'--cap': '999.* is too large: a size is from 0 to"),
        (f"run --duration {'9' * 400}", "'--duration': '999.* is too long: a duration is from 0 to 87600h"),
        (f"trace --pid 1 --min-size {'9' * 20}", "'--min-size': '99999999999999999999' is too large"),
        (f"trace --pid 1 --smallest-growth {'9' * 20}", "'--smallest-growth': '99999999999999999999' is too large"),
        ("run --duration -5", "'-5' is no duration"),
        ("run --report /nonexistent/report.json", "--report /nonexistent/report.json: it cannot be written"),
        ("run --report .", "is a directory"),
        ("run --no-such-option", "--no-such-option"),
        ("run and more", r"unexpected extra argument\(s\) \(and more\): write memleak-lab run [OPTIONS]$"),
        ("trace", "trace needs one target: name it by --pid"),
        ("trace --pid 3999999999", "pid 3999999999 does not exist: list the processes with"),
        ("trace --pid 0", "pid 0 does not exist"),
        ("trace --pid -1", "pid -1 does not exist"),
        ("trace --pid me", "'--pid' / '-p': 'me' is no whole number"),
        ("trace --pid 1 --container web", "--pid and --container are 2 targets, and there can be one: keep one"),
        ("learn --pid 1 --container web", "--pid and --container are 2 targets, and there can be one: keep one"),
        ("trace --pid {own}", "pid {own} is of this command itself: name the process to look at"),
        ("trace --pid {own} --light", "pid {own} is of this command itself"),
        ("trace --pid 1 --duration 0.1", "--duration is 0.1 s: it must be from 1"),
        ("trace --pid 1 --interval 0", "--interval is 0 s: it must be"),
        ("trace --pid 1 --format yaml", "'--format': 'yaml' is not one of 'table', 'json'"),
        ("trace --pid 1 --top 0", "'--top': '0' is out of range: it must be from 1 to 1000"),
        ("trace --pid 1 --top 1001", "'--top': '1001' is out of range: it must be from 1 to 1000"),
        ("trace --pid 1 --top abc", "'--top': 'abc' is no whole number: it must be from 1 to 1000"),
        ("trace --pid 1 --max-rate 0.5", "'--max-rate': '0.5' is out of range: it must be 1 or more"),
        (f"trace --pid {'9' * 5000}", "'--pid' / '-p': '9999.*' is out of range"),
        ("trace --pod nowhere", "--pod nowhere is no pod: write --pod NAMESPACE/POD"),
        ("watch --container nosuch", "^memleak-lab: no container 'nosuch' runs on this machine"),
        ("verify", "Missing argument 'ANSWER'"),
        ("verify malloc --ledger file:///x", "is missing an 'http://' or 'https://' protocol: name the service's"),
        ("verify malloc --ledger http://127.0.0.1:1/ledger", "no ledger at http://127.0.0.1:1/ledger: "),
        ("diagnose", "No such command 'diagnose': there are learn, run, trace, watch, report, verify, doctor$"),
        ("report", "Missing argument 'FILE...': write memleak-lab report [OPTIONS] FILE..."),
        ("doctor --namespace demo", "--namespace does nothing without --gone: add --gone, or leave it out"),
        ("doctor --image demo", "--image does nothing without --gone"),
        ("doctor --gone --for lab", "--for does nothing with --gone: leave --for out, or --gone"),
        ("doctor --gone --namespace Foo", "--namespace is 'Foo': a namespace is up to 63 of a-z"),
        ("doctor --gone --image a:1:2", "--image is 'a:1:2': an image's name has"),
        ("trace --pid 1 --light --format pprof", "--format pprof does nothing with --light: leave --format pprof out"),
        ("report none.json", "none.json is no report: .*No such file"),
        ("report a.json b.json c.json", "3 reports cannot be compared: name one, or two"),
        ("report a.json b.json --format json", "two reports have no --format json"),
    ],
)
@pytest.mark.usefixtures("able")
def test_bad_input_is_one_line_and_exit_status_2(memleak_lab: Command, arguments: str, said: str) -> None:
    own = str(os.getpid())
    status, out, err = memleak_lab(*arguments.replace("{own}", own).split())
    assert status == 2
    assert out == ""
    assert err.startswith("memleak-lab: ")
    assert re.search(said.replace("{own}", own).replace("[", r"\["), err)
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_without_arguments_the_help_is_all(memleak_lab: Command) -> None:
    status, out, err = memleak_lab()
    assert (status, err) == (2, "")
    assert "trace   Trace any process" in out


def test_without_root_a_run_does_not_begin(
    memleak_lab: Command, able: Callable[[Machine], None], tmp_path: Path
) -> None:
    able(machine(tmp_path / "sys", euid=1000))
    assert memleak_lab("run") == (2, "", "memleak-lab: privileges: uid 1000: run it as root: sudo ...\n")


@pytest.mark.parametrize(("gone", "said"), [("kernel", "kernel types (BTF): "), ("bus", "uprobes: neither ")])
def test_without_btf_or_tracefs_nothing_begins(
    memleak_lab: Command, able: Callable[[Machine], None], tmp_path: Path, gone: str, said: str
) -> None:
    (tmp_path / "sys" / gone).rename(tmp_path / "gone")
    able(machine(tmp_path / "sys"))
    for command in (["run"], ["trace", "--pid", "1"]):
        status, out, err = memleak_lab(*command)
        assert (status, out) == (2, "")
        assert err.startswith(f"memleak-lab: {said}")
        assert err.count("\n") == 1


@pytest.mark.usefixtures("able")
def test_doctor_lists_what_is_there(memleak_lab: Command) -> None:
    status, out, err = memleak_lab("doctor")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["ok"] * 9


def test_doctor_names_everything_that_is_missing_with_its_remedy(
    memleak_lab: Command, able: Callable[[Machine], None], tmp_path: Path
) -> None:
    able(machine(tmp_path / "nowhere[/]", euid=1000, kernel="4.19.0"))
    status, out, err = memleak_lab("doctor")
    assert (status, err) == (1, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok", *["MISSING"] * 4, "ok"]
    for line, remedy in zip(lines[1:-1], ("boot a kernel 5.15", "sudo", "CONFIG_DEBUG_INFO_BTF", "mount"), strict=True):
        assert remedy in line


# --- run, without a service ---


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize(("right", "status"), [(True, 0), (False, 1)])
def test_the_exit_status_of_a_run_is_that_of_its_grade(
    memleak_lab: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, right: bool, status: int
) -> None:
    asked: list[RunOptions] = []

    def run(options: RunOptions, *_: object) -> Outcome:
        asked.append(options)
        counted = dict.fromkeys(UNCOUNTED, 0)
        seen = replace(report(LEAKING, BUSY), lost=counted)
        return Outcome(seen, CLAIMS_WINDOW, LEDGER, Grade(right, "as the test says"), ())

    monkeypatch.setattr(cli_run, "run", run)
    file = tmp_path / "report.json"
    ended = memleak_lab(*f"run --speed 600 --duration 5m --window 2s --chunk 1MiB --cap 0 --report {file}".split())
    assert ended[0] == status
    assert ended[1].endswith("as the test says\n")
    assert ended[2] == ""
    assert (asked[0].speed, asked[0].duration_seconds, asked[0].window_seconds) == (600, 300, 2)
    assert (asked[0].chunk_bytes, asked[0].cap_bytes) == (1 << 20, 0)
    assert json.loads(file.read_text())["stacks"][0]["outstanding_bytes"] == LEAKING.outstanding_bytes


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_by_unwinding_it(
    memleak_lab: Command, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    unwound = []

    def run(*_: object) -> None:
        try:
            signal.raise_signal(number)
        finally:
            unwound.append(number)

    monkeypatch.setattr(cli_run, "run", run)
    status, out, err = memleak_lab("run")
    assert (status, out) == (130, "")
    assert err == "memleak-lab: interrupted: everything it started is gone\n"
    assert unwound == [number]


@pytest.mark.parametrize(("names", "said"), [((), ""), (("/a/file",), "/a/file: ")])
def test_a_file_s_error_is_not_said_of_standard_output(
    memleak_lab: Command, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], said: str
) -> None:
    def fail(**_: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", *names)

    monkeypatch.setattr(cli, "app", fail)
    assert memleak_lab("doctor") == (2, "", f"memleak-lab: {said}No space left on device\n")


@pytest.mark.parametrize("arguments", ["--version", "--help"])
def test_an_error_of_standard_output_is_named(arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # nothing is kept then of what could not be written
    line = f"{Path(sys.executable).with_name('memleak-lab')} {arguments} >/dev/full"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "memleak-lab: standard output: No space left on device\n")


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("stops", [False, True])
def test_a_hangup_that_nohup_ignores_stays_ignored(
    memleak_lab: Command, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    def run(*_: object) -> None:
        if stops:
            stop_on_signals()
        signal.raise_signal(signal.SIGHUP)
        raise LabError("it ran on")

    monkeypatch.setattr(cli_run, "run", run)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert memleak_lab("run") == (2, "", "memleak-lab: it ran on\n")


def test_what_is_concluded_is_printed_as_it_is() -> None:
    """Names of functions may hold brackets: they are no markup."""
    console = Console(record=True)
    print_grade(console, Grade(right=True, text="RIGHT: operator[] and [bold]"))
    assert "operator[] and [bold]" in console.export_text()


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_the_exit_statuses_are_in_the_help(memleak_lab: Command, option: str) -> None:
    _, out, _ = memleak_lab(option)
    words = " ".join(out.split())
    for status, meaning in STATUSES.items():
        assert f"{status} {meaning}" in words


def test_the_version_is_printed(memleak_lab: Command) -> None:
    assert memleak_lab("--version") == (0, "memleak-lab 0.1.0\n", "")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("trace", "How long to trace, 1s to 24h"),
        ("trace", "0.2s or more"),
        ("watch", "How long to watch: 1s to 24h"),
        ("run", "in real time: 1s to 24h"),
    ],
)
def test_the_range_of_a_duration_is_in_the_help(memleak_lab: Command, command: str, said: str) -> None:
    _, out, _ = memleak_lab(command, "--help")
    assert said in " ".join(out.replace("│", " ").split())
