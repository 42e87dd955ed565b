"""The stacks of `trace --light`: whole without frame pointers, and counted where they are not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from diagnosis.faults.growth import GrowthSampler
from diagnosis.faults.light import FaultsBeside
from diagnosis.report.site import CallSite
from diagnosis.target.process import Process
from diagnosis.target.symbols import Symbolizer
from diagnosis.target.unwinding import ProcessTables
from tests.support.programs import answer, compile_c, running

if TYPE_CHECKING:
    from collections.abc import Callable

MEMLEAK_LAB = Path(sys.executable).with_name("memleak-lab")
# Without -g, which would put the tables into the debug information.
NO_FRAME_POINTERS = ("-O2", "-fomit-frame-pointer")
NO_TABLES = (*NO_FRAME_POINTERS, "-fno-asynchronous-unwind-tables", "-fno-unwind-tables")

# At each line it touches 16 MiB of new memory in the way that the line says, under `outer` and `middle`.
TOUCHER = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES (16 << 20)
#define KEEP __attribute__((noinline, noclone))
#define AFTER() __asm__ volatile("" ::: "memory")

KEEP void by_code(char *memory)
{
    for (size_t at = 0; at < BYTES; at += 4096)
        ((volatile char *)memory)[at] = 1;
    AFTER();
}
KEEP void by_kernel(char *memory)
{
    int zero = open("/dev/zero", O_RDONLY);
    if (read(zero, memory, BYTES) != BYTES)
        puts("short");
    close(zero);
    AFTER();
}
KEEP void by_recursion(char *memory, int depth)
{
    if (depth)
        by_recursion(memory, depth - 1);
    else
        by_code(memory);
    AFTER();
}
KEEP void middle(char *memory, const char *how)
{
    if (*how == 'k')
        by_kernel(memory);
    else if (*how == 'd')
        by_recursion(memory, 200);
    else
        by_code(memory);
    AFTER();
}
KEEP void outer(const char *how)
{
    char *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(memory, BYTES, MADV_NOHUGEPAGE);
    middle(memory, how);
    munmap(memory, BYTES);
}

int main(void)
{
    char line[16];
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        outer(line);
        puts("done");
        fflush(stdout);
    }
    return 0;
}
"""

# Grows by 1 MiB every 20 ms.
GROWER = r"""
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define KEEP __attribute__((noinline, noclone))
KEEP void keep_more(void)
{
    memset(malloc(1 << 20), 1, 1 << 20);
    __asm__ volatile("" ::: "memory");
}
KEEP void serve(void)
{
    keep_more();
    usleep(20000);
}
int main(void) { for (;;) serve(); }
"""


class Seen(NamedTuple):
    """What was sampled of one process: functions of the worst stack, all samples, and those lost by kind."""

    worst: list[str]
    samples: int
    lost: dict[str, int]


@pytest.fixture
def see(tmp_path: Path) -> Callable[..., Seen]:
    def seen(how: str, *flags: str, tables: bool = True) -> Seen:
        toucher = compile_c(TOUCHER, tmp_path / "toucher", *flags)
        with running(toucher) as process:
            assert answer(process) == "ready"
            target = Process(process.pid)
            sampler = GrowthSampler(process.pid, tables=ProcessTables(target) if tables else None)
            try:
                assert sampler.notes == ()
                assert answer(process, how) == "done"
                window = sampler.read()
            finally:
                sampler.close()
            with Symbolizer(target) as symbolizer:
                stacks = window.stacks_of(process.pid, symbolizer)
                lost = window.lost_of(process.pid, symbolizer)
        worst = [frame.name for frame in stacks[0].frames]
        return Seen(worst, sum(stack.samples for stack in stacks), lost)

    return seen


@pytest.mark.ebpf
def test_samples_beside_a_trace_name_the_caller_without_frame_pointers(tmp_path: Path) -> None:
    with running(compile_c(TOUCHER, tmp_path / "toucher", *NO_FRAME_POINTERS)) as process:
        assert answer(process) == "ready"
        target = Process(process.pid)
        with Symbolizer(target) as symbolizer, FaultsBeside(target) as faults:
            assert answer(process, "code") == "done"
            faults.refresh()
            assert faults.touched(symbolizer)[0].site == CallSite("by_code", "middle")


@pytest.mark.ebpf
@pytest.mark.parametrize(("how", "innermost"), [("code", ["by_code"]), ("kernel", ["by_kernel"])])
def test_stacks_are_whole_without_frame_pointers(see: Callable[..., Seen], how: str, innermost: list[str]) -> None:
    """GIVEN memory that code or a system call touches first, THEN the stack leads through all callers to the start."""
    seen = see(how, *NO_FRAME_POINTERS)
    at = seen.worst.index("middle")
    assert seen.worst[at - 1 : at] == innermost
    assert seen.worst[at : at + 3] == ["middle", "outer", "main"]
    assert seen.samples > 20
    assert set(seen.lost.values()) == {0}


@pytest.mark.ebpf
def test_stacks_deeper_than_what_is_kept_are_counted(see: Callable[..., Seen]) -> None:
    seen = see("deep", *NO_FRAME_POINTERS, "-fno-optimize-sibling-calls")
    assert seen.worst[:3] == ["by_code", "by_recursion", "by_recursion"]
    assert seen.lost.pop("deep_stack") > 0.9 * seen.samples > 20
    assert seen.lost.pop("no_table_stack") == seen.lost.pop("unreadable_stack") == 0


@pytest.mark.ebpf
def test_stacks_that_end_at_code_without_a_table_are_counted(see: Callable[..., Seen]) -> None:
    """Only the code that the C library adds to the program says where its frames are."""
    seen = see("code", *NO_TABLES)
    assert seen.worst == ["by_code"]
    assert seen.lost["no_table_stack"] > 0.9 * seen.samples > 20


@pytest.mark.ebpf
def test_frame_pointers_lose_the_callers_that_tables_have(see: Callable[..., Seen]) -> None:
    """Where such a stack ends is chance: the frame register holds whatever the code put there."""
    seen = see("code", *NO_FRAME_POINTERS, tables=False)
    assert seen.samples > 20
    assert not {"middle", "main"} & {*seen.worst}


@pytest.mark.ebpf
def test_the_report_names_the_function_that_grows(tmp_path: Path) -> None:
    grower = compile_c(GROWER, tmp_path / "grower", *NO_FRAME_POINTERS)
    with running(grower) as leaking:
        command = [MEMLEAK_LAB, "trace", "--light", "--pid", str(leaking.pid), "--duration", "3s", "--format", "json"]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert (report["verdict"]["function"], report["verdict"]["caller"]) == ("keep_more", "serve")
    assert [frame["function"] for frame in report["stacks"][0]["frames"]][1:4] == ["keep_more", "serve", "main"]
    assert set(report["lost"].values()) == {0}
