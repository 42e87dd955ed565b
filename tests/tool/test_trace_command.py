"""The command `memleak-lab trace` on programs that are not the lab's."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import validate

from diagnosis.output.document import SCHEMA_FILE
from diagnosis.target.allocator import find_allocators
from diagnosis.target.process import Process
from tests.support.programs import answer, compile_c, running
from tests.support.waiting import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMLEAK_LAB = Path(sys.executable).with_name("memleak-lab")

# Allocates and frees as fast as it can, holds up to a thousand blocks at a time, and keeps none for long.
BUSY = r"""
#include <stdlib.h>
#define HELD 1000
static void *held[HELD];
__attribute__((noinline)) void *take(size_t n) { void *p = malloc(n); __asm__ volatile("" ::: "memory"); return p; }
int main(void)
{
    unsigned random = 1;
    for (;;) {
        random = random * 1664525u + 1013904223u;
        void **place = &held[(random >> 8) % HELD];
        free(*place);
        *place = take(16 + (random >> 20) % 4000);
    }
}
"""
# Keeps one block at each line that it reads: of as many bytes as the line says, or of 1000.
KEEPER = r"""
#include <stdio.h>
#include <stdlib.h>
__attribute__((noinline)) void keep(size_t n)
{
    void *volatile p = malloc(n);
    (void)p;
    __asm__ volatile("" ::: "memory");
}
int main(void)
{
    char line[8];
    setvbuf(stdin, malloc(4096), _IOFBF, 4096);
    puts("ready"); fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        int said = atoi(line);
        keep(said ? said : 1000);
        puts("kept"); fflush(stdout);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def busy(folder: Path) -> Path:
    return compile_c(BUSY, folder / "busy", "-O2")


@pytest.fixture(scope="module")
def keeper(folder: Path) -> Path:
    return compile_c(KEEPER, folder / "keeper", "-O2")


def trace(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MEMLEAK_LAB, "trace", *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )


def report(*arguments: object) -> dict[str, Any]:
    done = trace(*arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Tracing:
    """A trace in the background, whose window has begun: it says every now and then what it holds so far."""

    def __init__(self, pid: int, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [MEMLEAK_LAB, "trace", "--pid", str(pid), "--interval", "0.2s", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr
        assert any(line.startswith("after ") for line in self.process.stderr), "it ended before its window began"
        probed = probed_addresses(pid)
        assert breakpoints(pid, probed) == len(probed)

    def end(self, number: signal.Signals) -> str:
        self.process.send_signal(number)
        return self.process.communicate(timeout=LIMIT_SECONDS)[0]


def probed_addresses(pid: int) -> set[int]:
    """Where in the target's memory the tracer's probes go."""
    process = Process(pid)
    return {
        placed.probe.offset - code.offset + code.start
        for allocator in find_allocators(process)
        for code in process.maps()
        if code.executable and code.path == allocator.name
        for placed in allocator.probes
    }


def breakpoints(pid: int, addresses: set[int]) -> int:
    """How many of these are a breakpoint (int3) now."""
    found = 0
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for address in addresses:
            memory.seek(address)
            found += memory.read(1) == b"\xcc"
    return found


@pytest.mark.ebpf
def test_a_busy_process_that_frees_what_it_takes_does_not_leak(busy: Path) -> None:
    with running(busy) as process:
        found = report("--pid", process.pid, "--duration", "3s", "--all")
    assert not found["verdict"]["leak"], found["verdict"]["summary"]
    assert found["verdict"]["answer"] == "no leak"
    assert sum(stack["allocations"] for stack in found["stacks"]) > 1000
    assert not any(found["lost"].values()), found["lost"]


@pytest.mark.ebpf
@pytest.mark.parametrize(("options", "kept"), [((), 3071 + 3072), (("--min-size", "3KiB"), 3072)])
def test_small_blocks_can_be_left_out(keeper: Path, options: tuple[str, ...], kept: int) -> None:
    with running(keeper) as process:
        assert answer(process) == "ready"
        tracing = Tracing(process.pid, "--duration", "1h", "--format", "folded", *options)
        for size in ("3071", "3072"):
            assert answer(process, size) == "kept"
        output = tracing.end(signal.SIGINT)
    assert output.splitlines()[0].endswith(f";main;keep {kept}")


@pytest.mark.ebpf
def test_ctrl_c_ends_the_window_with_a_report(keeper: Path) -> None:
    with running(keeper) as process:
        assert answer(process) == "ready"
        tracing = Tracing(process.pid, "--duration", "1h", "--format", "folded")
        for _ in range(5):
            assert answer(process, "go") == "kept"
        output = tracing.end(signal.SIGINT)
        assert breakpoints(process.pid, probed_addresses(process.pid)) == 0
    assert tracing.process.returncode == 0
    assert output.splitlines()[0].endswith(";main;keep 5000")


@pytest.mark.ebpf
def test_probes_go_with_a_tracer_that_is_killed(keeper: Path) -> None:
    with running(keeper) as process:
        assert answer(process) == "ready"
        tracing = Tracing(process.pid)
        tracing.end(signal.SIGKILL)
        probed = probed_addresses(process.pid)
        wait_until(lambda: breakpoints(process.pid, probed) == 0, "the kernel detaches the probes")
        assert answer(process, "go") == "kept"


@pytest.mark.ebpf
def test_prometheus_is_served_while_it_traces(keeper: Path, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}/metrics"
    with running(keeper) as process:
        assert answer(process) == "ready"
        tracing = Tracing(process.pid, "--listen", f"127.0.0.1:{unused_tcp_port}")

        def served() -> bool:
            try:
                return b"memleak_resident_bytes" in urllib.request.urlopen(url).read()
            except OSError:
                return False

        wait_until(served, "metrics are served")
        for _ in range(3):
            assert answer(process, "go") == "kept"
        text = urllib.request.urlopen(url).read().decode()
        tracing.end(signal.SIGTERM)
    line = next(line for line in text.splitlines() if line.startswith("memleak_outstanding_bytes") and '"keep"' in line)
    assert line.endswith(" 3000.0")


@pytest.mark.ebpf
def test_what_is_outstanding_is_printed_at_each_interval(busy: Path) -> None:
    with running(busy) as process:
        tracing = Tracing(process.pid, "--top", "1")
        assert tracing.process.stderr
        lines = [next(tracing.process.stderr) for _ in range(6)]
        tracing.end(signal.SIGINT)
    assert sum(line.startswith("after ") for line in lines) == 3
    assert sum("take < main" in line for line in lines) == 3


@pytest.mark.ebpf
def test_a_saved_report_is_opened_again_in_every_format_and_compared(keeper: Path, busy: Path, tmp_path: Path) -> None:
    kept, other = tmp_path / "kept.json", tmp_path / "busy.json"
    with running(keeper) as process:
        assert answer(process) == "ready"
        tracing = Tracing(process.pid, "--duration", "1h", "--save", str(kept))
        for _ in range(100):
            assert answer(process, "9000") == "kept"
        printed = tracing.end(signal.SIGINT)
    with running(busy) as process:
        trace("-p", process.pid, "--duration", "1s", "--save", other)

    def opened(*arguments: object) -> bytes:
        return subprocess.run(
            [MEMLEAK_LAB, "report", *map(str, arguments)], capture_output=True, timeout=60, check=True
        ).stdout

    assert opened(kept).decode() == printed
    validate(json.loads(opened(kept, "--format", "json")), json.loads(SCHEMA_FILE.read_text()))
    assert opened(kept, "--format", "folded").splitlines()[0].endswith(b";main;keep 900000")
    assert json.loads(opened(kept, "--format", "speedscope"))["profiles"][0]["weights"][0] == 900_000
    assert gzip.decompress(opened(kept, "--format", "pprof")).count(b"keep")
    compared = opened(kept, other).decode()
    assert "keep < main" in compared
    assert "take < main" in compared


@pytest.mark.ebpf
@pytest.mark.parametrize(("asked", "status"), [((), 0), (("--fail-on", "leak"), 0), (("--fail-on", "growth"), 3)])
def test_the_exit_status_says_whether_it_found_what_was_asked_for(
    keeper: Path, tmp_path: Path, asked: tuple[str, ...], status: int
) -> None:
    """100 blocks at once are growth, and no leak."""
    file = tmp_path / "report.json"
    with running(keeper) as process:
        assert answer(process) == "ready"
        tracing = Tracing(process.pid, "--duration", "1h", "--save", str(file), *asked)
        for _ in range(100):
            assert answer(process, "9000") == "kept"
        tracing.end(signal.SIGINT)
    verdict = json.loads(file.read_text())["verdict"]
    assert verdict["answer"] == "growing", verdict["summary"]
    assert tracing.process.returncode == status


def test_explain_needs_no_root_and_traces_nothing() -> None:
    done = trace("--pid", os.getpid(), "--explain")
    assert done.returncode == 0
    assert "malloc+" in done.stdout
    assert "free+" in done.stdout


@pytest.mark.root
def test_explain_shows_the_probes_of_an_allocator_that_the_user_names(keeper: Path) -> None:
    with running(keeper) as process:
        answer(process)
        done = trace("--pid", process.pid, "--explain", "--allocator", "alloc=keep:size=1,free=main:ptr=1")
    assert done.returncode == 0
    assert f"probes of pid {process.pid} in {keeper}" in done.stdout.replace("\n", "")
    assert "keep+" in done.stdout
    assert "malloc+" in done.stdout


def bad_inputs() -> Iterator[tuple[tuple[str, ...], str]]:
    yield (), "name it by --pid P"
    yield ("--pid", "1", "--pod", "a/b"), "name it by --pid P"
    yield ("--pid", "0"), "pid 0 does not exist"
    yield ("--pid", "4194305"), "pid 4194305 does not exist"
    yield ("--pid", "1", "--duration", "0"), "--duration is 0 s: it must be from 1 to 86400 s"
    yield ("--pid", "1", "--duration", "soon"), "'soon' is no duration"
    yield ("--pid", "1", "--interval", "0.01"), "--interval is 0.01 s: it must be 0.2 s or more"
    yield ("--pid", "1", "--min-size", "much"), "'much' is no size"
    yield ("--pid", "1", "--max-blocks", "0"), "--max-blocks"
    yield ("--pid", "1", "--top", "0"), "--top"
    yield ("--pid", "1", "--format", "xml"), "--format"
    yield ("--pid", "1", "--allocator", "alloc=take:size=9"), "take: 'size=9' is no position: they are 1 to 5"
    yield ("--pid", "1", "--light", "--listen", "127.0.0.1:1"), "--listen does nothing with --light"
    yield ("--pid", "1", "--light", "--min-size", "1KiB"), "--min-size does nothing with --light"
    yield ("--pid", "1", "--light", "--save", "report.json"), "--save does nothing with --light"
    yield ("--pid", "1", "--light", "--format", "pprof"), "--format does nothing with --light"
    yield ("--pid", "1", "--explain", "--save", "report.json"), "--save does nothing with --explain"
    yield ("--pid", "1", "--save", "/nowhere/report.json"), "--save /nowhere/report.json: it cannot be written"
    yield ("--pid", "1", "--fail-on", "anything"), "--fail-on"


@pytest.mark.parametrize(("arguments", "said"), list(bad_inputs()))
def test_bad_input_is_one_line_and_no_traceback(arguments: tuple[str, ...], said: str) -> None:
    done = trace(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("memleak-lab: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.ebpf
def test_memory_of_an_open_window_is_bounded(keeper: Path) -> None:
    """An hour's samples, at a clock that runs as fast as the test can: as many are kept as of a minute."""
    from diagnosis.report.verdict import SAMPLES_PER_WINDOW  # noqa: PLC0415
    from diagnosis.target.symbols import Symbolizer  # noqa: PLC0415
    from diagnosis.trace.tracer import Tracer  # noqa: PLC0415
    from diagnosis.trace.window import measure  # noqa: PLC0415

    looks = 0
    began = time.monotonic()

    def pause(_: float) -> bool:
        nonlocal looks
        looks += 1
        return looks < 2_000

    with running(keeper) as process:
        assert answer(process) == "ready"
        with Tracer(Process(process.pid)) as tracer, Symbolizer(Process(process.pid)) as symbolizer:
            window = measure(tracer, symbolizer, None, sample_count=SAMPLES_PER_WINDOW, pause=pause)
    assert looks == 2_000
    assert len(window.samples) <= 2 * SAMPLES_PER_WINDOW + 2
    assert window.samples[0].snapshot.seconds >= began


# A master that allocates nothing, and three workers that leak 3,000 bytes a millisecond each; recycled or not.
PREFORK = r"""
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
static void *volatile sink;
__attribute__((noinline)) void handle_request(void)
{
    sink = malloc(3000);
    memset(sink, 1, 3000);
    __asm__ volatile("");
}
static void worker(int most)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < most; i++) { handle_request(); usleep(1000); }
    _exit(0);
}
int main(int argc, char **argv)
{
    int most = argc > 1 ? atoi(argv[1]) : 1;
    for (int i = 0; i < 3; i++)
        if (!fork()) worker(most);
    for (;;) { wait(0); if (!fork()) worker(most); }
}
"""


@pytest.mark.ebpf
def test_children_are_traced_with_their_parent(folder: Path) -> None:
    with running(compile_c(PREFORK, folder / "prefork", "-O2"), "100000000") as process:
        wait_until(lambda: len(Process(process.pid).children()) == 3, "the workers are there")
        found = report("--pid", process.pid, "--children", "--duration", "6s")
    assert found["verdict"]["answer"] in ("leak", "growing"), found["verdict"]  # by how evenly it could run
    assert found["verdict"]["function"] == "handle_request"
    (stack,) = [each for each in found["stacks"] if each["outstanding_bytes"]]
    assert stack["outstanding_bytes"] == 3000 * stack["allocations"]
    assert found["account"] is None
    assert "The numbers are of 4 processes together." in found["notes"]


@pytest.mark.ebpf
def test_children_that_are_not_traced_are_said(folder: Path) -> None:
    with running(compile_c(PREFORK, folder / "prefork", "-O2"), "100000000") as process:
        wait_until(lambda: len(Process(process.pid).children()) == 3, "the workers are there")
        found = report("--pid", process.pid, "--duration", "1s")
    assert not found["verdict"]["leak"]
    assert any(note.endswith("Add --children.") for note in found["notes"])
