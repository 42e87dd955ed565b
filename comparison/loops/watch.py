"""What `memleak-lab watch` costs a process that does nothing but fault: `make bench-watch`.

The loop runs with the sampler and without, in turn, so that both see the same machine. The figure to quote is the
median of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from comparison.loops.loads import PROGRAMS
from diagnosis.faults.growth import PERIOD, GrowthSampler

LOOP_ROUNDS = 12


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What watching costs a loop of page faults.")
    parser.add_argument("--pairs", type=int, default=25, help="runs with and without (default 25)")
    options = parser.parse_args()
    if options.pairs < 1:
        parser.error(f"--pairs is {options.pairs}: it must be 1 or more")
    with tempfile.TemporaryDirectory() as folder:
        loop = Path(folder, "faults")
        subprocess.run(["cc", "-O2", "-o", loop, PROGRAMS / "faults.c"], check=True)
        pairs = [(_run(loop), _watched(loop)) for _ in range(options.pairs)]
    alone, watched = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(watched / alone for alone, watched in pairs)
    sys.stdout.write(
        f"one fault alone: {alone:.0f} ns; watched, one sample in {PERIOD} faults: {watched:.0f} ns;"
        f" median ratio of {options.pairs} pairs: {ratio:.4f}\n"
    )


def _run(loop: Path) -> float:
    return float(subprocess.run([loop, str(LOOP_ROUNDS)], capture_output=True, text=True, check=True).stdout)


def _watched(loop: Path) -> float:
    sampler = GrowthSampler()
    try:
        return _run(loop)
    finally:
        sampler.close()


if __name__ == "__main__":
    main()
