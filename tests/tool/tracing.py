"""The command `memleak-lab trace`: run to its end, or in the background."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnosis.target.allocator import find_allocators
from diagnosis.target.process import Process
from tests.support.waiting import LIMIT_SECONDS

if TYPE_CHECKING:
    import signal

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
