"""`--html` of the commands, on real processes: the page that a person opens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from diagnosis.output.document import report_as_json
from tests.output.reports import FIXED, HOSTILE, LEAK
from tests.support.programs import compile_c
from tests.support.waiting import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.browser import Browser

MEMLEAK_LAB = Path(sys.executable).with_name("memleak-lab")

KEEPER = """
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((noinline)) void *keep(size_t bytes) {
    void *block = malloc(bytes);
    memset(block, 1, bytes);
    return block;
}

int main(void) {
    for (;;) {
        keep(64 * 1024);
        usleep(2000);
    }
}
"""


def memleak_lab(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MEMLEAK_LAB, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[int]:
    """A process that keeps what it takes, with arguments that a page and a terminal could obey."""
    program = compile_c(KEEPER, tmp_path / "keeper", "-g")
    with subprocess.Popen([program, HOSTILE, "\x1b[31mred"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(report_as_json(LEAK, everything=True))
    after.write_text(report_as_json(FIXED, everything=True))
    return before, after


def page_text(browser: Browser, file: Path) -> tuple[str, str]:
    """The text of a page and the names of its flame graphs' frames: a page that the browser has nothing against."""
    browser.open(file)
    browser.wait("return document.querySelector('.flame g.frame') !== null")
    text = browser.run("return document.querySelector('main').textContent")
    frames = browser.run(
        "return [...document.querySelectorAll('.flame g.frame')].map((each) => each.getAttribute('name')).join(' ')"
    )
    assert browser.console() == []
    assert browser.requests() == [file.as_uri()]
    return text, frames


@pytest.mark.ebpf
@pytest.mark.browser
def test_a_trace_s_page_shows_the_function_its_line_and_its_readings(
    browser: Browser, tmp_path: Path, keeper: int
) -> None:
    file = tmp_path / "trace.html"
    done = memleak_lab("trace", "--pid", keeper, "--duration", "2s", "--html", file)
    assert done.returncode == 0, done.stderr
    text, frames = page_text(browser, file)
    assert frames.startswith("keeper ")
    assert " main keep" in frames
    assert "keep called from main" in text
    assert "void *block = malloc(bytes);" in text
    assert "The traced window" in text
    assert HOSTILE in text
    assert "\\x1b[31mred" in text
    assert "\x1b" not in text


@pytest.mark.ebpf
@pytest.mark.browser
def test_a_run_s_page_sets_the_claims_against_the_kernel_and_the_ledger(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "run.html"
    done = memleak_lab("run", "--speed", "600", "--duration", "5m", "--window", "2", "--html", file)
    assert done.returncode == 0, done.stdout + done.stderr
    text, frames = page_text(browser, file)
    assert "catalog_cache_worker catalog_cache_refresh catalog_cache_insert" in frames
    assert "RIGHT: catalog_cache_insert, " in text
    assert "/health said healthy at each of" in text
    assert "never freed, by the leaker's ledger" in text
    assert "struct catalog_entry *entry = malloc(bytes);" in text


@pytest.mark.ebpf
def test_a_page_that_cannot_be_written_is_one_line_and_the_report_is_printed(keeper: int) -> None:
    done = memleak_lab("trace", "--pid", keeper, "--duration", "1s", "--html", "/dev/full")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "memleak-lab: /dev/full could not be written: No space left on device: the report above is complete"
    )
    assert "bytes outstanding by call stack" in done.stdout
    assert Path("/dev/full").is_char_device()


@pytest.mark.browser
def test_two_saved_reports_become_one_page_and_the_comparison_is_printed(
    browser: Browser, tmp_path: Path, saved: tuple[Path, Path]
) -> None:
    file = tmp_path / "both.html"
    done = memleak_lab("report", *saved, "--html", file)
    assert done.returncode == 0, done.stderr
    assert "bytes kept a minute, by call site" in done.stdout
    text, frames = page_text(browser, file)
    assert "What changed" in text
    assert LEAK.report.verdict.summary in text
    assert FIXED.report.verdict.summary in text
    assert frames.count("shop") == 2


def test_one_saved_report_becomes_a_page_beside_any_format(tmp_path: Path, saved: tuple[Path, Path]) -> None:
    file = tmp_path / "one.html"
    done = memleak_lab("report", saved[0], "--format", "folded", "--html", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith("shop;")
    assert file.read_text().startswith("<!DOCTYPE html>")


def test_a_report_that_is_read_is_not_overwritten(saved: tuple[Path, Path], tmp_path: Path) -> None:
    link = tmp_path / "link.html"
    link.symlink_to(saved[0])
    before = saved[0].read_bytes()

    for name in (saved[0], link):
        done = memleak_lab("report", *saved, "--html", name)

        assert done.returncode == 2
        assert f"--html {name}: this is a report that is to be read" in done.stderr
    assert saved[0].read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--pid", "1", "--html", "/nowhere/page.html"), "--html /nowhere/page.html: it cannot be written"),
        (("--pid", "1", "--light", "--html", "page.html"), "--html does nothing with --light"),
        (("--pid", "1", "--explain", "--html", "page.html"), "--html does nothing with --explain"),
    ],
)
def test_what_cannot_become_a_page_is_said_before_the_trace(arguments: tuple[str, ...], said: str) -> None:
    done = memleak_lab("trace", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
