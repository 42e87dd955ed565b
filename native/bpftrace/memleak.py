#!/usr/bin/env python3
"""Run memleak.bt on a process, also on one in a container, and print one table or one JSON document.

Needs root, bpftrace 0.17 or newer and Python 3.11, and nothing else: copy this folder to where the process runs. It
finds the C library that the process has mapped, the cheapest place for the probe in ``free``, and names for addresses.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from symbols import PROC, Elf, Image, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SCRIPT = Path(__file__).with_name("memleak.bt")
LONGEST_SECONDS = 86_400

# Each by its name before and since bpftrace 0.20: addresses instead of names, and room for live blocks.
ADDRESSES = {"BPFTRACE_NO_USER_SYMBOLS": "1", "BPFTRACE_STACK_MODE": "raw"}
ROOM = ("BPFTRACE_MAP_KEYS_MAX", "BPFTRACE_MAX_MAP_KEYS")

# The kernel emulates these and single-steps all else, at ten times the cost (arch/x86/kernel/uprobes.c): push of a
# register, nop, jumps and calls with a relative target.
_EMULATED = re.compile(rb"[\x50-\x57\x70-\x7f\x90\xe8\xe9\xeb]|\x41[\x50-\x57]|\x0f[\x80-\x8f]")
# endbr64 and test %rdi,%rdi, which leave the argument and the stack pointer as they are.
_PASSED_OVER = (b"\xf3\x0f\x1e\xfa", b"\x48\x85\xff")


@dataclass(frozen=True)
class Counts:
    """What one call stack took and gave back."""

    outstanding_bytes: int
    allocations: int
    frees: int

    @property
    def leak_ratio(self) -> float:
        """Share of the allocations that were not freed."""
        return (self.allocations - self.frees) / self.allocations if self.allocations else 0.0


@dataclass(frozen=True)
class Books:
    """Counts by stack (return addresses, innermost first; none where no stack was kept), and lost events by kind."""

    stacks: Mapping[tuple[int, ...], Counts]
    lost: Mapping[str, int]


def free_offset(libc: Elf) -> int:
    """How far into ``free`` the first instruction lies that the kernel emulates: 0 where that is not certain."""
    code = libc.code("free", 32) if libc.is_x86_64 else b""
    offset = 0
    for instruction in _PASSED_OVER:
        if code.startswith(instruction, offset):
            offset += len(instruction)
    return offset if _EMULATED.match(code, offset) else 0


def restricts_uprobes() -> bool:
    """Whether ``-p`` keeps other processes out of this bpftrace's uprobes, as from 0.20 on.

    The script need not ask for the pid then. Where bpftrace is in a pid namespace it must not: what that takes for the
    pid of a process in a container is 0.
    """
    done = subprocess.run(["bpftrace", "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"(\d+)\.(\d+)", done.stdout)
    return version is not None and (int(version[1]), int(version[2])) >= (0, 20)


def accepts_offset(libc: Path, offset: int) -> bool:
    """Whether this bpftrace attaches within a function: builds without a disassembler, such as Debian 12's, do not."""
    program = f"uprobe:{libc}:free+{offset} {{ }} interval:ms:1 {{ exit(); }}"
    return subprocess.run(["bpftrace", "-e", program], capture_output=True, check=False).returncode == 0


def read_books(lines: Iterable[str]) -> Books:
    """What the output of ``bpftrace -f json`` says."""
    counted: defaultdict[str, Counter[tuple[int, ...]]] = defaultdict(Counter)
    lost: Counter[str] = Counter()
    for line in lines:
        if '"map"' not in line:
            continue
        # As pairs: before 0.21 a stack is one key for each thread that took it, and JSON has the key that often.
        ((name, values),) = json.loads(line, object_pairs_hook=list)[1][1]
        for key, value in values:
            if name == "@lost":
                lost[key] += value
            else:
                counted[name][_addresses(key)] += value
    outstanding, allocations, frees = (counted[name] for name in ("@outstanding", "@allocations", "@frees"))
    stacks = {*outstanding, *allocations, *frees}
    return Books({stack: Counts(outstanding[stack], allocations[stack], frees[stack]) for stack in stacks}, lost)


def _addresses(text: str) -> tuple[int, ...]:
    # One to a line; from 0.22 on the line ends arrive as the two characters \n.
    return tuple(int(word, 16) for word in text.replace("\\n", "\n").split())


def count(pid: int, libc: Path, offset: int, seconds: int, max_blocks: int) -> list[str]:
    """Run memleak.bt and return its output, line by line.

    Raises:
        RefusedError: bpftrace failed; the text is its own.
    """
    script_pid = 0 if restricts_uprobes() else pid
    environment = {**os.environ, **ADDRESSES, **dict.fromkeys(ROOM, str(max_blocks))}
    arguments = ["bpftrace", "-f", "json", "-p", str(pid), str(SCRIPT), *map(str, (script_pid, libc, offset, seconds))]
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as run:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is bpftrace's: it prints what it has
            lines = run.stdout.readlines() if run.stdout else []
        errors.seek(0)
        if run.returncode:
            raise RefusedError(f"bpftrace failed with status {run.returncode}:\n{errors.read().strip()}")
    return lines


def table(command: str, stacks: Sequence[tuple[tuple[str, ...], Counts]], lost: Mapping[str, int]) -> str:
    """The stacks as text, for people."""
    lines = [f"process: {command}"]
    for frames, counts in stacks:
        blocks = counts.allocations - counts.frees
        calls = f"{counts.allocations} allocations, {counts.frees} frees, leak ratio {counts.leak_ratio:.1%}"
        lines += ["", f"{counts.outstanding_bytes} bytes outstanding in {blocks} blocks ({calls})"]
        lines += [f"    {frame}" for frame in frames or ("[no stack was kept]",)]
    lines += [f"\nlost {kind}: {number} were not tracked: raise --max-blocks" for kind, number in lost.items()]
    return "\n".join(lines) + "\n"


def document(
    options: argparse.Namespace, command: str, stacks: Sequence[tuple[tuple[str, ...], Counts]], lost: Mapping[str, int]
) -> str:
    """The same for programs."""
    return (
        json.dumps(
            {
                "pid": options.pid,
                "command": command,
                "lost": lost,
                "stacks": [
                    {"frames": frames, **vars(counts), "leak_ratio": counts.leak_ratio} for frames, counts in stacks
                ],
            },
            indent=2,
        )
        + "\n"
    )


def main() -> int:
    """Exit status 0 after a count, 1 if there is nothing to count or bpftrace failed, 2 if the command is wrong."""
    parser = argparse.ArgumentParser(description="Bytes outstanding by call stack, with bpftrace.")
    parser.add_argument("pid", type=int, help="a process; of a container: docker inspect -f '{{.State.Pid}}' NAME")
    parser.add_argument(
        "--seconds", type=int, default=30, help="from bpftrace's start, attaching included (default 30)"
    )
    parser.add_argument("--top", type=int, default=5, help="stacks to print (default 5)")
    parser.add_argument("--max-blocks", type=int, default=1 << 17, help="live blocks to track (default 131072)")
    parser.add_argument("--json", action="store_true", help="every stack, for a program")
    options = parser.parse_args()
    if not 1 <= options.seconds <= LONGEST_SECONDS:
        parser.error(f"--seconds is {options.seconds}: it must be from 1 to {LONGEST_SECONDS}")
    try:
        image = Image(options.pid)
        libc = image.libc()
        for allocator in image.other_allocators():
            sys.stderr.write(
                f"memleak.py: WARNING: pid {options.pid} has a malloc in {allocator}, and only the C library's is "
                "probed: what that one hands out is missing here. memleak-lab trace probes both\n"
            )
        offset = free_offset(Elf(libc))
        offset = offset if offset and accepts_offset(libc, offset) else 0
        command = f"{options.pid} {(PROC / str(options.pid) / 'comm').read_text().strip()}"
        books = read_books(count(options.pid, libc, offset, options.seconds, options.max_blocks))
        # Once more, for what was loaded meanwhile; unless it has ended.
        image = Image(options.pid) if (PROC / str(options.pid) / "maps").exists() else image
    except (RefusedError, OSError) as error:
        sys.stderr.write(f"memleak.py: {error}\n")
        return 1
    ordered = sorted(books.stacks.items(), key=lambda item: (-item[1].outstanding_bytes, -item[1].allocations))
    shown = ordered if options.json else ordered[: options.top]
    named = [(tuple(image.describe(address) for address in stack), counts) for stack, counts in shown]
    sys.stdout.write(
        document(options, command, named, books.lost) if options.json else table(command, named, books.lost)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
