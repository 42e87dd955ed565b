"""Names, arguments and paths that hold what a terminal obeys: no output does."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.hostile.programs import leaker_called, renamed
from tests.hostile.running import (
    FORGED,
    GENEROUS_SECONDS,
    MEMLEAK_LAB,
    check_text,
    exporting,
    functions,
    hostile,
    memleak_lab,
    metrics,
    report,
    trace,
)
from tests.support.programs import compile_c
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(300)]

LIBRARY_ALLOCATOR = """
static char room[1 << 20];
static size_t used;
void *malloc(size_t n) { void *p = room + used; used += (n + 15) & ~15ul; return p; }
void free(void *p) { (void)p; }
"""


def test_a_symbol_that_overflows_a_stack_is_shown_as_it_is(folder: Path) -> None:
    program = compile_c(leaker_called("_Z1f" + "P" * 200_000 + "i"), folder / "deep-symbol")
    with hostile(program) as pid:
        first = functions(report(pid))[0]
    assert first.startswith("_Z1fPPPP")
    assert len(first) <= 1024


def test_a_symbol_that_becomes_half_a_gigabyte_is_shown_as_it_is(folder: Path) -> None:
    symbol = "_Z1f1aIiiE" + "".join(f"S_I{f'S{digit}_' * 2}E" for digit in "0123456789ABCDEFGHIJKLMN")
    with hostile(compile_c(leaker_called(symbol), folder / "large-symbol")) as pid:
        assert functions(report(pid))[0] == symbol


def test_a_symbol_that_is_no_text_costs_no_other_name(folder: Path) -> None:
    """GIVEN a symbol that is no UTF-8, THEN its bytes are question marks, and the others have their names."""
    program = renamed(compile_c(leaker_called("Q" * 8), folder / "bytes"), b"Q" * 8, b"\xff\xfe\x80QQQQQ")
    with hostile(program) as pid:
        found = report(pid)
    assert functions(found)[:2] == ["???QQQQQ", "main"]
    assert found["lost"]["names"] == 0


@pytest.fixture(scope="module")
def forger(folder: Path) -> Path:
    """Its symbol, its name and its arguments hold all that a terminal obeys, and lines of a verdict."""
    evil = FORGED.encode()
    source = leaker_called("P" * len(evil)).replace("/* name */", 'prctl(PR_SET_NAME, "c\\033[31m\\nx");')
    return renamed(compile_c(source, folder / "forger"), b"P" * len(evil), evil)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--interval", "0.5s"),
        ("--format", "json"),
        ("--format", "folded"),
        ("--explain",),
        ("--light",),
    ],
    ids=" ".join,
)
def test_no_output_of_a_trace_holds_a_control_character(arguments: tuple[str, ...], forger: Path) -> None:
    with hostile(forger, "[bold]m[/nope]", FORGED, name=f"srv{FORGED}") as pid:
        result = memleak_lab("trace", "--pid", pid, "--duration", "2s", *arguments)
    result.check()
    assert result.out


@pytest.mark.parametrize("name", [r"\034SigCgt:zz", "x kB", r"\rRssAnon:x kB"], ids=range(3))
def test_a_name_that_looks_like_a_line_of_the_kernel_s_does_not_end_a_trace(name: str, folder: Path) -> None:
    source = leaker_called("leak").replace("/* name */", f'prctl(PR_SET_NAME, "{name}");')
    with hostile(compile_c(source, folder / "named")) as pid:
        assert functions(report(pid))[0] == "leak"


def test_a_watch_and_a_teardown_check_hold_none_either(forger: Path) -> None:
    with hostile(forger, name=f"memleak-lab{FORGED}: rm -rf /opt/x") as pid:
        watched = memleak_lab("watch", "--duration", "3s", "--top", "50")
        watched.check()
        assert f"pid {pid} grew" in watched.out
        gone = memleak_lab("doctor", "--gone")
    check_text(gone.out)
    check_text(gone.err)
    assert not any(line.strip().startswith("rm ") for line in gone.out.splitlines())


def test_on_a_terminal_only_the_programs_own_colours_are_sent(forger: Path, tmp_path: Path) -> None:
    recorded = tmp_path / "typescript"
    with hostile(forger, name=f"srv{FORGED}") as pid:
        command = shlex.join([str(MEMLEAK_LAB), "trace", "--pid", str(pid), "--duration", "1s"])
        subprocess.run(["script", "-qec", command, recorded], check=True, capture_output=True, timeout=GENEROUS_SECONDS)
    text = re.sub(r"\x1b\[[0-9;]*m", "", recorded.read_bytes().decode()).replace("\r\n", "\n")
    check_text(text)
    assert "fn" in text or "srv" in text


def test_metrics_hold_none_either(forger: Path, unused_tcp_port: int) -> None:
    with hostile(forger, name=f"srv{FORGED}") as pid, exporting(pid, unused_tcp_port) as (address, _):
        wait_until(lambda: "memleak_allocations_total{" in metrics(address), "it has allocated", 60)
        check_text(metrics(address))


def test_a_path_with_markup_and_one_with_escapes_are_shown_as_they_are(mapper: Path, folder: Path) -> None:
    allocator = "#include <stddef.h>\nvoid *malloc(size_t n); void free(void *p);\n" + LIBRARY_ALLOCATOR
    marked = folder / "a[" / "red].so"
    marked.parent.mkdir()
    compile_c(allocator, marked, "-shared", "-fPIC", "-fno-builtin")
    with hostile(mapper, marked) as pid:
        assert "[/red].so" in trace(pid, "--explain").out
        trace(pid)


def test_a_c_library_that_is_none_is_refused_in_a_line(mapper: Path, folder: Path) -> None:
    fake = folder / "libc.so.6\x1b]0;owned\x07"
    fake.write_bytes(b"not an ELF file".ljust(8192))
    with hostile(mapper, fake) as pid:
        result = trace(pid, status=2)
    assert "libc.so.6\\x1b]0;owned\\x07 is no readable ELF file" in result.err
    assert result.err.count("\n") == 1
