"""What `memleak-lab watch` and `trace --light` cost a process that does nothing but fault: `make bench-watch`.

The loop runs without a sampler and with each way of sampling, in turn, so that all see the same machine. The figures to
quote are the medians of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from comparison.loops.loads import PROGRAMS
from diagnosis.faults.growth import PERIOD, GrowthSampler
from diagnosis.target.process import Process
from diagnosis.target.unwinding import ProcessTables

if TYPE_CHECKING:
    from collections.abc import Callable

LOOP_ROUNDS = 12


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What sampling costs a loop of page faults.")
    parser.add_argument("--pairs", type=int, default=25, help="runs without a sampler and with each (default 25)")
    options = parser.parse_args()
    if options.pairs < 1:
        parser.error(f"--pairs is {options.pairs}: it must be 1 or more")
    with tempfile.TemporaryDirectory() as folder:
        loop = Path(folder, "faults")
        subprocess.run(["cc", "-O2", "-o", loop, PROGRAMS / "faults.c"], check=True)
        runs = [[_run(loop, samplers) for samplers in (_none, *WAYS.values())] for _ in range(options.pairs)]
    alone = statistics.median(run[0] for run in runs)
    lines = [f"one fault alone: {alone:.0f} ns. With one sample in {PERIOD} faults, medians of {options.pairs} runs:"]
    for i, way in enumerate(WAYS, 1):
        ratio = statistics.median(run[i] / run[0] for run in runs)
        lines.append(f"{way}: {statistics.median(run[i] for run in runs):.0f} ns, ratio {ratio:.4f}")
    sys.stdout.write("\n".join(lines) + "\n")


def _none(_pid: int) -> list[GrowthSampler]:
    return []


def _watch(_pid: int) -> list[GrowthSampler]:
    return [GrowthSampler()]


def _light(pid: int) -> list[GrowthSampler]:
    return [GrowthSampler(pid, tables=ProcessTables(Process(pid)))]


def _watch_growing(pid: int) -> list[GrowthSampler]:
    return [*_watch(pid), *_light(pid)]


WAYS = {"watch": _watch, "watch, a process that grows": _watch_growing, "trace --light": _light}


def _run(loop: Path, samplers: Callable[[int], list[GrowthSampler]]) -> float:
    """The time of one fault in ns."""
    command = [str(loop), str(LOOP_ROUNDS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if not process.stdin or not process.stdout or process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{loop} did not start")
        with ExitStack() as stack:
            for sampler in samplers(process.pid):
                stack.callback(sampler.close)
            return float(process.communicate("go\n")[0])


if __name__ == "__main__":
    main()
