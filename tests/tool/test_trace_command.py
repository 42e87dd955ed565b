"""The command `memleak-lab trace` on programs that are not the lab's."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest
from jsonschema import validate

from diagnosis.output.document import SCHEMA_FILE
from diagnosis.target.process import Process
from tests.support.programs import answer, running
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until
from tests.tool.tracing import MEMLEAK_LAB, Tracing, breakpoints, probed_addresses, report, trace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.ebpf
def test_a_busy_process_that_frees_what_it_takes_does_not_leak(busy: Path) -> None:
    with running(busy) as process:
        found = report("--pid", process.pid, "--duration", "8s", "--all")
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
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_window_with_a_report(keeper: Path, number: signal.Signals) -> None:
    with running(keeper) as process:
        assert answer(process) == "ready"
        tracing = Tracing(process.pid, "--duration", "1h", "--format", "folded")
        for _ in range(5):
            assert answer(process, "go") == "kept"
        output = tracing.end(number)
        assert breakpoints(process.pid, probed_addresses(process.pid)) == 0
    assert tracing.process.returncode == 0
    assert output.splitlines()[0].endswith(";main;keep 5000")


@pytest.mark.ebpf
def test_a_window_that_is_closed_keeps_what_is_to_be_saved(keeper: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    with (
        running(keeper) as process,
        Terminal(tmp_path, "trace", "--pid", str(process.pid), "--duration", "1h", "--save", str(file)) as terminal,
    ):
        terminal.read_until(b"until Ctrl-C")
        terminal.close()
        assert terminal.status() == 2  # the report on the terminal could not be written
    assert json.loads(file.read_text())["target"]["pid"] == process.pid


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
def test_what_is_outstanding_is_printed_at_each_interval(keeper: Path) -> None:
    with running(keeper) as process:
        assert answer(process) == "ready"
        tracing = Tracing(process.pid, "--top", "1")
        assert answer(process, "9000") == "kept"
        assert tracing.process.stderr
        assert any("keep < main" in line for line in tracing.process.stderr)
        lines = [next(tracing.process.stderr) for _ in range(6)]
        tracing.end(signal.SIGINT)
    assert [line.startswith("after ") for line in lines] == [True, False] * 3
    assert sum("keep < main" in line for line in lines) == 3


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
        trace("-p", process.pid, "--duration", "1s", "--all", "--save", other)
    assert {stack["frames"][0]["function"] for stack in json.loads(other.read_text())["stacks"]} == {"take"}

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
    assert re.search(r"keep < main +│ +\d+.* │ +0 B │ +-", compared), compared


@pytest.mark.ebpf
@pytest.mark.parametrize(("asked", "status"), [((), 0), (("--fail-on", "leak"), 0), (("--fail-on", "growth"), 3)])
def test_the_exit_status_says_whether_it_found_what_was_asked_for(
    keeper: Path, tmp_path: Path, asked: tuple[str, ...], status: int
) -> None:
    """200 blocks at once are growth, and no leak."""
    file = tmp_path / "report.json"
    with running(keeper) as process:
        assert answer(process) == "ready"
        tracing = Tracing(process.pid, "--duration", "1h", "--save", str(file), *asked)
        for _ in range(200):
            assert answer(process, "9000") == "kept"
        tracing.end(signal.SIGINT)
    verdict = json.loads(file.read_text())["verdict"]
    assert verdict["answer"] == "growing", verdict["summary"]
    assert tracing.process.returncode == status


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
