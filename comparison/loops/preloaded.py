"""Tools without eBPF: they are in the process from its start."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from comparison.loops.loads import SYSTEM_PYTHON, Running
from comparison.loops.run import Run, bare_name, named_share
from comparison.tools.tool import Row
from diagnosis.base.errors import LabError

if TYPE_CHECKING:
    from comparison.loops.loads import Load


@dataclass(frozen=True)
class Heaptrack:
    """heaptrack: no eBPF, an allocator preloaded into the process from its start."""

    name: str = "heaptrack (preloaded)"

    def missing(self) -> str:
        """Whether it is installed."""
        return "" if shutil.which("heaptrack") else "heaptrack is not installed: apt-get install heaptrack"

    def run(self, load: Load, folder: Path) -> Run:
        """Measure the load under it."""
        for old in folder.glob("heaptrack.*"):
            old.unlink()
        with Running(load, folder, ("heaptrack", "-o", str(folder / "heaptrack"))) as running:
            figure, kept = running.go()
            running.end()
        rows = self._leaked(folder)
        found = sum(row.outstanding_bytes for row in rows if load.keeper in map(bare_name, row.functions))
        return Run(figure, kept, found, named_share(rows, load.own))

    def _leaked(self, folder: Path) -> list[Row]:
        recorded = next(folder.glob("heaptrack.*"), None)
        if recorded is None:
            raise LabError("heaptrack left no file")
        folded = folder / "folded"
        subprocess.run(
            ["heaptrack_print", "--print-flamegraph", folded, "--flamegraph-cost-type", "leaked", recorded],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        rows = re.findall(r"^(.*) (\d+)$", folded.read_text(), re.MULTILINE)
        return [Row(tuple(reversed(stack.split(";"))), int(count)) for stack, count in rows]


# The function of memray's that runs the program: it shows none further out.
MEMRAY_START = "_run_tracker"

# Run by memray's own Python: what was never given back, by frames of both languages, innermost first.
READER = """
import json, sys
from memray import FileReader
for record in FileReader(sys.argv[1]).get_leaked_allocation_records(merge_threads=True):
    names = [frame[0] for frame in record.hybrid_stack_trace()]
    print(json.dumps([names, record.size]))
"""


@dataclass(frozen=True)
class Memray:
    """memray: Python only, which it starts with its own allocator functions in the place of the C library's."""

    name: str = "memray --native"

    def missing(self) -> str:
        """Whether it is on the PATH, with the Python of the loads."""
        if python := self._python():
            asked = [python, "-c", "import sys; print(sys.version_info[:2])"]
            own, system = (
                subprocess.run([each, *asked[1:]], capture_output=True, text=True, check=False).stdout
                for each in (python, SYSTEM_PYTHON)
            )
            return "" if own == system else f"memray is not on the PATH for {SYSTEM_PYTHON}"
        return f"memray is not on the PATH: {SYSTEM_PYTHON} -m venv DIR; DIR/bin/pip install memray"

    def run(self, load: Load, folder: Path) -> Run:
        """Measure the load under it.

        Raises:
            LabError: the load is no Python program.
        """
        interpreter, *script = load.command
        if interpreter != SYSTEM_PYTHON:
            raise LabError("traces Python programs only")
        recorded = folder / "memray.bin"
        options = ("-m", "memray", "run", "--native", "--quiet", "--force", "--output", str(recorded))
        with Running(load, folder, command=(self._python(), *options, *script)) as running:
            figure, kept = running.go()
            running.end()
        done = subprocess.run([self._python(), "-c", READER, str(recorded)], capture_output=True, text=True, check=True)
        rows = [Row(tuple(names), int(size)) for names, size in map(json.loads, done.stdout.splitlines())]
        found = sum(row.outstanding_bytes for row in rows if load.keeper in map(bare_name, row.functions))
        return Run(figure, kept, found, named_share(rows, load.own, {MEMRAY_START}))

    def _python(self) -> str:
        program = shutil.which("memray")
        return str(Path(program).with_name("python")) if program else ""
