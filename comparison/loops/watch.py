"""What `memleak-lab watch` and `trace --light` cost a process that does nothing but fault: `make bench-watch`.

The loop runs without a sampler and with each of the two, in turn, so that all see the same machine. The figures to
quote are the medians of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
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
        runs = [[_run(loop, sampler) for sampler in (None, _watch, _light)] for _ in range(options.pairs)]
    alone, watched, light = (statistics.median(times) for times in zip(*runs, strict=True))
    watch_ratio = statistics.median(watched / alone for alone, watched, _ in runs)
    light_ratio = statistics.median(light / alone for alone, _, light in runs)
    sys.stdout.write(
        f"one fault alone: {alone:.0f} ns. With one sample in {PERIOD} faults, medians of {options.pairs} runs:\n"
        f"watch: {watched:.0f} ns, ratio {watch_ratio:.4f}; trace --light: {light:.0f} ns, ratio {light_ratio:.4f}\n"
    )


def _watch(_pid: int) -> GrowthSampler:
    return GrowthSampler()


def _light(pid: int) -> GrowthSampler:
    return GrowthSampler(pid, tables=ProcessTables(Process(pid)))


def _run(loop: Path, sampler: Callable[[int], GrowthSampler] | None) -> float:
    """The time of one fault in ns."""
    command = [str(loop), str(LOOP_ROUNDS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if not process.stdin or not process.stdout or process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{loop} did not start")
        sampling = sampler(process.pid) if sampler else None
        try:
            return float(process.communicate("go\n")[0])
        finally:
            if sampling:
                sampling.close()


if __name__ == "__main__":
    main()
