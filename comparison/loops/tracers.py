"""What tracing costs: `make bench`.

Every tool on the same loads, in one run, in turn. A figure is the processor time of one malloc/free pair, so that it
means the same on one thread and on eight; the ratios hold from machine to machine, the times do not.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from comparison.loops.contestants import BCC, CONTESTANTS, EXACT, LIMIT
from comparison.loops.loads import LOADS, SMALL, compile_programs
from diagnosis.base.errors import LabError
from diagnosis.base.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from comparison.loops.contestants import Contestant
    from comparison.loops.loads import Load
    from comparison.loops.run import Run

DOCUMENT = Path(__file__).parents[2] / "docs" / "BENCHMARKS.md"
BEGIN, END = "<!-- begin: make bench -->", "<!-- end -->"
ROUNDS = 1


@dataclass(frozen=True)
class Result:
    """One contestant on one load, the median of its rounds. ``figure`` is None, with a reason, where it did not run."""

    contestant: str
    load: str
    unit: str
    figure: float | None
    kept: int
    found: int | None
    reason: str = ""
    named: float | None = None
    events: int = 0


def machine() -> dict[str, str]:
    """What the figures were taken on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    versions = {
        "BCC": ["dpkg-query", "-W", "-f", "${Version}", "bpfcc-tools"],
        "bpftrace": ["bpftrace", "--version"],
        "heaptrack": ["dpkg-query", "-W", "-f", "${Version}", "heaptrack"],
        "memray": ["memray", "--version"],
    }
    return {
        "processor": model,
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "Python": platform.python_version(),
        **{name: _said(command) for name, command in versions.items()},
    }


def _said(command: Sequence[str]) -> str:
    if not shutil.which(command[0]):
        return "not installed"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not installed"


def measure(load: Load, rounds: int, folder: Path, say: Console) -> list[Result]:
    """All contestants on one load, in turn, several times."""
    runs: defaultdict[str, list[Run]] = defaultdict(list)
    reasons: dict[str, str] = {}
    for number in range(rounds):
        for contestant in CONTESTANTS:
            if contestant.name in reasons:
                continue
            reason = contestant.missing()
            if not reason:
                say.print(f"{load.name}, round {number + 1}: {contestant.name}", highlight=False)
                try:
                    runs[contestant.name].append(contestant.run(load, folder))
                except (LabError, ValueError, subprocess.SubprocessError) as error:
                    reason = str(error).strip().splitlines()[-1]
            if reason:
                reasons[contestant.name] = reason
    return [
        _result(contestant, load, runs[contestant.name], reasons.get(contestant.name, "")) for contestant in CONTESTANTS
    ]


def _result(contestant: Contestant, load: Load, runs: Sequence[Run], reason: str) -> Result:
    if not runs:
        return Result(contestant.name, load.name, load.unit, None, 0, None, reason)
    typical = statistics.median_low(run.figure for run in runs)
    chosen = next(run for run in runs if run.figure == typical)
    return Result(
        contestant.name, load.name, load.unit, typical, chosen.kept, chosen.found, "", chosen.named, chosen.events
    )


def cost_ratio(results: Iterable[Result], costly: str, other: str, load: str) -> float | None:
    """How many times as much one contestant adds to a load as another: the load's own time is taken off both."""
    figures = {result.contestant: result.figure for result in results if result.load == load}
    alone, more, less = figures.get("no tracer"), figures.get(costly), figures.get(other)
    return (more - alone) / (less - alone) if alone and more and less and less > alone else None


def table(results: Sequence[Result]) -> list[str]:
    """The results on one load, in Markdown."""
    alone = next((result.figure for result in results if result.contestant == "no tracer"), None)
    lines = [
        f"| | {results[0].unit} | against no tracer | {_head_of_kept(results[0])} | whole, through its own function |",
        "|---|---:|---:|---|---:|",
    ]
    for result in results:
        if result.figure is None:
            lines.append(f"| {result.contestant} | - | - | {result.reason} | - |")
            continue
        times = f"{result.figure / alone:,.1f} x" if alone else ""
        digits = 2 if result.unit == "s" or result.figure < 100 else 0
        lines.append(
            f"| {result.contestant} | {result.figure:,.{digits}f} | {times} | {_found(result)} | {_named(result)} |"
        )
    return lines


def _head_of_kept(result: Result) -> str:
    return f"bytes kept, of {format_size(result.kept)}" if result.kept else "bytes kept"


def _named(result: Result) -> str:
    return "" if result.named is None else f"{math.floor(result.named * 1000) / 10:.1f} %"


def event_costs(results: Sequence[Result]) -> list[str]:
    """What an event costs this tracer, and an empty program on its probes, on each packaged load, in ns.

    An event is a call that takes memory or gives it back. The load's own time is taken off.
    """
    lines = []
    for load in (load.name for load in LOADS if load.packaged):
        by_name = {result.contestant: result for result in results if result.load == load}
        alone, exact = by_name.get("no tracer"), by_name.get(EXACT.name)
        if alone and exact and alone.figure and exact.figure and exact.events:
            limit = by_name.get(LIMIT.name)
            costs = [
                f"{(each.figure - alone.figure) / exact.events * 1e9:,.0f} ns"
                for each in (exact, limit)
                if each and each.figure is not None
            ]
            lines.append(f"{load}, {exact.events:,} events: " + ", an empty program ".join(costs))
    return lines


def _found(result: Result) -> str:
    if result.found is None or not result.kept:
        return ""
    off = result.found - result.kept
    return "exact" if not off else f"{result.found:,} ({off:+,})"


def write(document: Path, preamble: str, results: Sequence[Result], conclusion: str) -> None:
    """Put the results between the document's marks. Loads that were not measured now keep the table that they have."""
    head, rest = document.read_text().split(BEGIN, 1)
    old, tail = rest.split(END, 1)
    sections = dict(re.findall(r"^### (.*)\n\n((?:\|.*\n)+)", old, re.MULTILINE))
    kept = re.search(r"^(BCC memleak's cost|This tracer's cost|An event of) .*\Z", old, re.MULTILINE | re.DOTALL)
    for load in dict.fromkeys(result.load for result in results):
        own = [result for result in results if result.load == load]
        sections[load] = "\n".join(table(own)) + "\n"
    parts = [preamble, *(f"### {load.name}\n\n{sections[load.name]}" for load in LOADS if load.name in sections)]
    parts.append(conclusion or (kept[0] if kept else ""))
    document.write_text(f"{head}{BEGIN}\n\n" + "\n\n".join(part.strip() for part in parts) + f"\n\n{END}{tail}")


def main() -> None:
    """Measure, print, and write the document."""
    parser = argparse.ArgumentParser(description="What tracing costs, beside other tools.")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="runs of each, of which the median counts (default 1)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results here")
    parser.add_argument("--only", default="", help="only the loads whose name holds this; the others keep their tables")
    parser.add_argument("--no-document", action="store_true", help="leave docs/BENCHMARKS.md as it is")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}: it must be 1 or more")
    say = Console(stderr=True)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        compile_programs(folder)
        for load in LOADS:
            if options.only in load.name:
                results += measure(load, options.rounds, folder, say)
    if not results:
        parser.error(
            f"--only {options.only}: no load of that name; there are: {', '.join(load.name for load in LOADS)}"
        )
    found = machine()
    preamble = ", ".join(f"{key}: {value}" for key, value in found.items()) + "."
    ratio = cost_ratio(results, BCC.name, EXACT.name, SMALL.name)
    conclusion = f"BCC memleak's cost over this tracer's, 64 B loop: {ratio:.1f}." if ratio else ""
    over_limit = [
        f"{load.name}: {above:.2f}"
        for load in LOADS
        if (above := cost_ratio(results, EXACT.name, LIMIT.name, load.name))
    ]
    if over_limit:
        conclusion += f"\n\nThis tracer's cost over the empty program's on the same probes: {'; '.join(over_limit)}."
    if costs := event_costs(results):
        conclusion += f"\n\nAn event of this tracer costs: {'; '.join(costs)}."
    sys.stdout.write(f"{preamble}\n")
    for name in dict.fromkeys(result.load for result in results):
        own = [result for result in results if result.load == name]
        sys.stdout.write("\n".join(["", name, *table(own)]) + "\n")
    sys.stdout.write(f"\n{conclusion or 'The 64 B loop was not measured.'}\n")
    if options.json:
        options.json.write_text(
            json.dumps({"machine": found, "results": [asdict(each) for each in results]}, indent=2) + "\n"
        )
    if not options.no_document:
        write(DOCUMENT, preamble, results, conclusion)


if __name__ == "__main__":
    main()
