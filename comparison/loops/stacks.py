"""How many stacks of packaged programs are whole: `make bench-stacks`.

A stack is whole where its walk came to the thread's start, as the tracer itself says of each one. That these are the
stacks that gdb sees is tests/system/unwind/test_gdb.py's.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from heap_trace import UNKNOWN_STACK, Ending

from comparison.loops.packaged import PACKAGED, missing
from comparison.loops.running import ROOT, describe, machine, write_between_marks
from diagnosis.base.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heap_trace import Lost

    from comparison.loops.packaged import Packaged
    from diagnosis.trace.tracer import Tracer

DOCUMENT = ROOT / "docs" / "BENCHMARKS.md"
BEGIN = "<!-- begin: make bench-stacks -->"


@dataclass(frozen=True)
class Endings:
    """Stacks of one program: how many different ones, and allocations under them, by how they ended.

    ``lost`` is what the tracer could not count at all, or without its stack.
    """

    stacks: Mapping[Ending, int]
    allocations: Mapping[Ending, int]
    lost: Mapping[Lost, int] = field(default_factory=dict)

    @property
    def whole_stacks(self) -> float:
        """The share of stacks, from 0 to 1."""
        return _share(self.stacks)

    @property
    def whole_allocations(self) -> float:
        """The share of allocations, from 0 to 1."""
        return _share(self.allocations)

    @property
    def others(self) -> str:
        """What was not whole, or not counted; "" for nothing."""
        cut = {ending.name.lower(): count for ending, count in self.allocations.items() if ending is not Ending.START}
        lost = {f"lost {kind.name.lower()}": count for kind, count in self.lost.items() if count}
        return ", ".join(f"{name}: {count:,}" for name, count in (cut | lost).items())


def _share(counts: Mapping[Ending, int]) -> float:
    total = sum(counts.values())
    return counts.get(Ending.START, 0) / total if total else 0.0


def endings(tracer: Tracer) -> Endings:
    """What a tracer has counted so far."""
    stacks: Counter[Ending] = Counter()
    allocations: Counter[Ending] = Counter()
    for stack, counts in tracer.snapshot().counts.items():
        if counts.allocations:
            ending = tracer.ending(stack)
            stacks[ending] += stack != UNKNOWN_STACK
            allocations[ending] += counts.allocations
    return Endings(+stacks, allocations, {kind: count for kind, count in tracer.lost().items() if count})


def measure(packaged: Packaged) -> Endings:
    """Trace a program at its work.

    Raises:
        LabError: it did not come to its end, or cannot be traced.
    """
    with tempfile.TemporaryDirectory() as folder, packaged.traced(Path(folder)) as tracer:
        return endings(tracer)


def table(found: Mapping[str, Endings | str]) -> str:
    """One row for each program, in Markdown: what was measured, or why it was not."""
    lines = [
        "| program | allocations | under whole stacks | different stacks | whole | not whole, or not counted |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, each in found.items():
        if isinstance(each, str):
            lines.append(f"| {name} | - | - | - | - | {each} |")
            continue
        allocations, stacks = sum(each.allocations.values()), sum(each.stacks.values())
        lines.append(
            f"| {name} | {allocations:,} | {percent(each.whole_allocations)} | {stacks:,} "
            f"| {percent(each.whole_stacks)} | {each.others} |"
        )
    return "\n".join(lines)


def percent(share: float) -> str:
    """Cut off, and not rounded: 100 % is all of them."""
    return f"{math.floor(share * 100_000) / 1000:.3f} %"


def versions() -> str:
    """What the programs are, as the distribution has them."""
    query = ["dpkg-query", "-W", "-f", "${Package} ${Version}\n"]
    packages = sorted({each.package for each in PACKAGED})
    try:
        done = subprocess.run([*query, *packages], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "not Debian's"
    return ", ".join(done.stdout.splitlines())


def main() -> None:
    """Measure, print, and write the document."""
    parser = argparse.ArgumentParser(description="How many stacks of packaged programs are whole.")
    parser.add_argument("--no-document", action="store_true", help="leave docs/BENCHMARKS.md as it is")
    options = parser.parse_args()
    found: dict[str, Endings | str] = {}
    for packaged in PACKAGED:
        sys.stderr.write(f"{packaged.name}\n")
        try:
            found[packaged.name] = missing(packaged) or measure(packaged)
        except LabError as error:
            found[packaged.name] = str(error).splitlines()[0]
    text = f"{describe(machine())} {versions()}.\n\n{table(found)}"
    sys.stdout.write(f"{text}\n")
    if not options.no_document:
        write_between_marks(DOCUMENT, text, BEGIN)


if __name__ == "__main__":
    main()
