"""`memleak-lab run` for real: the leak, the claims, the trace, the report and the grade."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from diagnosis.lab.child import PROJECT
from diagnosis.lab.unprivileged import choose_user, command_as
from diagnosis.report.lost import UNCOUNTED
from tests.lab.command import MEMLEAK_LAB, descendants
from tests.support.waiting import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    from tests.lab.command import Command
    from tests.lab.conftest import MemleakLab

KIB, MIB = 1024, 1024 * 1024
LEAK_SOURCE = PROJECT / "native/leak/src/catalog_cache.c"

# The frames that a diagnosis has to show, innermost first, each with the call that it is at.
LEAK_PATH = [
    ("catalog_cache_insert", "malloc("),
    ("catalog_cache_refresh", "catalog_cache_insert("),
    ("catalog_cache_worker", "catalog_cache_refresh("),
]

# What a window of seconds supports: a machine that pauses in it makes a step of even growth.
LEAKS_OR_GROWS = ("leak", "growing")
NAMED = re.compile(r"(WARNING|GROWING): catalog_cache_insert, called from catalog_cache_refresh, (leaks|holds)")


def finished(command: Command) -> tuple[int, str, dict[str, Any]]:
    """Exit status, output and report of a run, which has to leave nothing else behind."""
    status = command.end()
    assert command.stderr() == ""
    file = command.folder / "report.json"
    report: dict[str, Any] = json.loads(file.read_text())
    file.unlink()
    command.assert_nothing_is_left()
    return status, "\n".join(command.lines), report


@pytest.mark.ebpf
@pytest.mark.parametrize(
    ("speed", "chunk", "duration", "window"),
    [
        pytest.param(600, 64 * KIB, "5m", 2, id="64 KiB, speed 600"),
        pytest.param(600, MIB, "5m", 2, id="1 MiB, speed 600"),
        pytest.param(60, 64 * KIB, "1m", 3, id="64 KiB, speed 60"),
        pytest.param(60, MIB, "1m", 3, id="1 MiB, speed 60"),
    ],
)
def test_the_diagnosis_names_the_leak_and_has_its_bytes_as_the_ledger_has_them(
    memleak_lab: MemleakLab, speed: int, chunk: int, duration: str, window: int
) -> None:
    arguments = f"run --speed {speed} --chunk {chunk} --duration {duration} --window {window} --report report.json"
    with memleak_lab(arguments) as command:
        status, output, report = finished(command)

    leak = report["stacks"][0]
    assert leak["outstanding_bytes"] == report["ledger"]["bytes"]
    assert leak["allocations"] == report["ledger"]["calls"]
    assert leak["outstanding_bytes"] == leak["allocations"] * chunk
    # A refresh of 1 MiB every 8 s of the story; what a pause of the machine held up is made up for within the window.
    assert leak["outstanding_bytes"] == pytest.approx(report["window_seconds"] * speed / 8 * MIB, rel=0.5)
    assert (leak["frees"], leak["leak_ratio"], leak["broken"]) == (0, 1.0, False)
    assert leak["bytes_per_minute"] == pytest.approx(leak["outstanding_bytes"] * 60 / report["window_seconds"])
    assert leak["share_of_resident_growth"] == pytest.approx(1, abs=0.15)
    assert leak["oldest_seconds"] >= report["window_seconds"] * 2 / 3

    source = LEAK_SOURCE.read_text().splitlines()
    for frame, (function, call) in zip(leak["frames"], LEAK_PATH, strict=False):
        assert frame["function"] == function
        assert Path(frame["file"]).name == LEAK_SOURCE.name
        assert call in source[frame["line"] - 1]
        assert frame["module"].startswith("_catalog_cache")

    assert report["verdict"]["answer"] in LEAKS_OR_GROWS
    assert report["verdict"]["function"] == "catalog_cache_insert"
    assert report["verdict"]["caller"] == "catalog_cache_refresh"
    assert {kind: report["lost"][kind] for kind in UNCOUNTED} == dict.fromkeys(UNCOUNTED, 0)
    assert NAMED.search(output)
    assert "RIGHT: catalog_cache_insert, " in output
    assert status == 0


@pytest.mark.ebpf
def test_the_report_has_every_field_and_the_service_is_never_root(memleak_lab: MemleakLab) -> None:
    with memleak_lab("run --speed 600 --duration 5m --window 1 --report report.json") as command:
        line = command.read_until("The service is pid")
        pid, name = re.search(r"pid (\d+), user (\S+),", line).groups()  # type: ignore[union-attr] # None fails as well
        status = dict(
            each.split(":\t") for each in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in each
        )
        assert name == choose_user(os.environ, os.geteuid()).name
        assert "0" not in status["Uid"].split() + status["Gid"].split()
        assert {int(status[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        command.read_until("Tracing pid")
        wait_until(
            lambda: all(Path(f"/proc/{each}").stat().st_uid for each in descendants(command.pid)), "nobody is root"
        )
        _, output, report = finished(command)

    assert set(report) >= {"target", "window_seconds", "stacks", "claims", "truth", "ledger", "lost", "verdict"}
    assert report["target"]["pid"] == int(pid)
    assert "-m service" in report["target"]["command"]
    assert report["window_seconds"] >= 1
    for stack in report["stacks"]:
        assert set(stack) >= {
            "frames", "outstanding_bytes", "allocations", "frees", "leak_ratio", "bytes_per_minute", "oldest_seconds",
            "share_of_resident_growth",
        }  # fmt: skip
        for frame in stack["frames"]:
            assert set(frame) >= {"function", "module", "file", "line"}
    assert {"leak", "function", "summary"} <= set(report["verdict"])
    assert report["verdict"]["summary"] in output

    # The service denies what the kernel knows.
    for moment in ("start", "end"):
        assert report["claims"][moment]["status"] == "healthy"
        assert set(report["claims"][moment]["health_checks"].values()) <= {"normal", "healthy"}
    claimed = report["claims"]["end"]["resident_bytes"] - report["claims"]["start"]["resident_bytes"]
    known = report["truth"]["resident_bytes_end"] - report["truth"]["resident_bytes_start"]
    assert known > 10 * claimed
    assert known == pytest.approx(report["ledger"]["bytes"], rel=0.15)


@pytest.mark.ebpf
def test_a_service_without_a_leak_is_cleared_with_reasons(memleak_lab: MemleakLab) -> None:
    with memleak_lab("run --cap 0 --speed 600 --duration 2m --window 2 --report report.json") as command:
        status, output, report = finished(command)
    assert status == 0
    assert report["verdict"]["leak"] is False
    assert (report["ledger"]["bytes"], report["ledger"]["calls"]) == (0, 0)
    summary = report["verdict"]["summary"]
    assert summary in output
    assert summary.startswith("No leak found: ")
    seen = re.search(
        r"([\d,]+) allocations and ([\d,]+) frees(?:, [\d,]+ of them of older blocks,)? were seen in \d+\.\ds and no"
        r" event was lost",
        summary,
    )
    assert seen, summary
    assert int(seen[1].replace(",", "")) > 0
    assert "no call site kept growing" in summary
    assert re.search("memory (grew by|shrank by|did not change)", summary)
    assert "RIGHT: nothing leaked in this window, and no leak was named" in output


@pytest.mark.root
def test_without_root_it_is_one_line() -> None:
    command = command_as(choose_user({}, 0), PROJECT, [sys.executable, str(MEMLEAK_LAB), "run"])
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=LIMIT_SECONDS, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"memleak-lab: privileges: uid {choose_user({}, 0).uid}: run it as root: sudo ...\n"


@pytest.mark.ebpf
def test_a_report_that_cannot_be_written_is_one_line_and_the_diagnosis_is_printed(memleak_lab: MemleakLab) -> None:
    with memleak_lab("run --speed 600 --duration 2m --window 2 --report /dev/full") as command:
        status = command.end()
        assert command.stderr() == (
            "memleak-lab: /dev/full could not be written: No space left on device: the report above is complete\n"
        )
        command.assert_nothing_is_left()
    output = "\n".join(command.lines)
    assert status == 2
    assert NAMED.search(output)
    assert "RIGHT: catalog_cache_insert, " in output


@pytest.mark.ebpf
def test_a_terminal_that_is_closed_does_not_take_the_report_with_it(tmp_path: Path) -> None:
    """GIVEN a reader that leaves after one line THEN the run goes on to its report, and ends with one line."""
    file = tmp_path / "report.json"
    command = [str(MEMLEAK_LAB), *["run", "--speed", "600", "--duration", "2m", "--window", "2", "--report"], str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(120) == 2
    assert errors == "memleak-lab: standard output was closed\n"
    assert json.loads(file.read_text())["verdict"]["function"] == "catalog_cache_insert"
