"""Stacks of packaged software, built without frame pointers: each one is what gdb finds at the same call."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from heap_trace import Ending, HeapTrace, Unwinding, UnwindMode

from comparison.loops.packaged import statements
from diagnosis.target.allocator import find_allocators
from diagnosis.target.objects import read_object
from diagnosis.target.process import Process
from diagnosis.target.unwinding import ProcessTables

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.root, pytest.mark.ebpf, pytest.mark.timeout(1200)]

FEWEST_ALLOCATIONS = 4000
GDB_SECONDS = 900.0

SQL_ROWS = 300

# Both read one line more at each stop; what they print there ends it.
SQLITE = ("/usr/bin/sqlite3", "-batch", ":memory:")
PYTHON = r"""
import json, os, re, sys, time, zlib, xml.etree.ElementTree as ET
print("ready", flush=True)
sys.stdin.readline()
for i in range(120):
    json.loads(json.dumps({"k": list(range(i % 50)), "s": "y" * 600}))
    re.compile("a%d(b|c)*[d-z]+" % i).match("a1bcbcd")
    zlib.decompress(zlib.compress(b"q" * 3000))
    ET.fromstring("<a>" + "<b c='1'>t</b>" * 20 + "</a>")
    sorted({str(j): [j] * 100 for j in range(30)}.items(), key=lambda pair: pair[1])
os.write(1, b"done\n")
time.sleep(3600)
"""

PROGRAMS = {
    "sqlite3": (SQLITE, b"select 'rea' || 'dy';\n", statements(SQL_ROWS).encode() + b"select 'do' || 'ne';\n"),
    "python3": (("/usr/bin/python3", "-S", "-c", PYTHON), b"", b"\n"),
}


class Worker:
    """A program of the distribution, stopped before its work. Addresses are the same in every run of it."""

    def __init__(self, command: Sequence[str], begin: bytes, work: bytes) -> None:
        self._work = work
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONHASHSEED": "0"}
        self._process = subprocess.Popen(
            ["setarch", "-R", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment
        )
        self.pid = self._process.pid
        self._write(begin)
        self._until(b"ready")

    def _write(self, text: bytes) -> None:
        assert self._process.stdin
        self._process.stdin.write(text)

    def _until(self, word: bytes) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if word in line:
                return
        pytest.fail(f"it ended before it said {word.decode()}")

    def run(self) -> None:
        """Do the work."""
        self._write(self._work)
        self._until(b"done")

    def end(self) -> None:
        """End it where it stands: how an interpreter tidies up is not its work."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()


def malloc_address(process: Process) -> int:
    """Where malloc is in a process."""
    libc = next(m for m in process.maps() if m.executable and Path(m.path).name.startswith("libc.so"))
    elf = read_object(process.open_path(libc), libc.path)
    offset = elf.offset_of(elf.exports["malloc"].address)
    assert offset is not None
    return libc.start - libc.offset + offset


def stacks_by_gdb(folder: Path, worker: Worker) -> Counter[tuple[int, ...]]:
    ready, written, log = folder / "ready", folder / "stacks.json", folder / "gdb.log"
    environment = os.environ | {
        "BACKTRACES_OF": str(malloc_address(Process(worker.pid))),
        "BACKTRACES_READY": str(ready),
        "BACKTRACES": str(written),
    }
    script = Path(__file__).with_name("backtraces.py")
    command = ["gdb", "-q", "-nx", "-batch", "-p", str(worker.pid), "-x", str(script)]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment) as gdb,
    ):
        try:
            deadline = time.monotonic() + 60
            while not ready.exists():
                assert gdb.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            worker.run()
            worker.end()
            gdb.wait(GDB_SECONDS)
        finally:
            gdb.kill()
    assert written.exists(), log.read_text()
    return Counter({tuple(stack): count for stack, count in json.loads(written.read_text())})


def stacks_by_tables(worker: Worker, mode: UnwindMode) -> Counter[tuple[int, ...]]:
    process = Process(worker.pid)
    tables = ProcessTables(process)
    with HeapTrace(unwinding=Unwinding(mode, tables.capacity())) as trace:
        assert trace.tables
        tables.load(trace.tables)
        for allocator in find_allocators(process):
            probes = [placed.probe for placed in allocator.probes if placed.name == "malloc"]
            code = [(m.start, m.end) for m in process.code_maps() if m.label == allocator.name]
            trace.attach(process.pid, str(allocator.path), probes, code)
        worker.run()
        counters, stacks = trace.counters(), trace.new_stacks()
        assert trace.unwound().mismatches == 0
    assert {stack.ending for stack in stacks.values()} == {Ending.START}
    return Counter({stack.frames: counters[found].allocations for found, stack in stacks.items()})


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_stack_is_gdbs(name: str, tmp_path: Path) -> None:
    command, begin, work = PROGRAMS[name]
    for needed in ("gdb", command[0]):
        if not shutil.which(needed):
            pytest.skip(f"{needed} is not installed: apt-get install gdb sqlite3 python3")

    with Worker(command, begin, work) as worker:
        traced = stacks_by_tables(worker, UnwindMode.COMPARE)
    with Worker(command, begin, work) as worker:
        debugged = stacks_by_gdb(tmp_path, worker)

    assert traced.total() >= FEWEST_ALLOCATIONS
    assert traced == debugged
