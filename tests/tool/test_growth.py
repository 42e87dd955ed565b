"""Page fault sampling against programs that touch a known number of pages."""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from diagnosis.base.errors import LabError
from diagnosis.faults.growth import GrowthSampler
from diagnosis.faults.watch import Growth, watch
from diagnosis.output.watched import growth_table
from diagnosis.target.process import Process
from diagnosis.target.symbols import Symbolizer
from tests.support.programs import answer, compile_c, running

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
MEMLEAK_LAB = Path(sys.executable).with_name("memleak-lab")

# At each line it touches 40, 16 and 4 MiB of new memory at three places, two of them through memset, and gives them
# back before the next: what is touched is known, and the program does not grow from round to round.
TOUCHER = r"""
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define KEEP __attribute__((noinline, noclone))
#define AFTER() __asm__ volatile("" ::: "memory")

static char *fresh(size_t bytes)
{
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    return memory;
}

KEEP void touch_most(char *memory) { memset(memory, 1, 40 << 20); AFTER(); }
KEEP void touch_some(char *memory) { memset(memory, 1, 16 << 20); AFTER(); }
KEEP void touch_little(char *memory)
{
    for (size_t at = 0; at < 4 << 20; at += 4096)
        ((volatile char *)memory)[at] = 1;
    AFTER();
}

int main(void)
{
    char line[8];
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        char *most = fresh(40 << 20), *some = fresh(16 << 20), *little = fresh(4 << 20);
        touch_most(most);
        touch_some(some);
        touch_little(little);
        munmap(most, 40 << 20);
        munmap(some, 16 << 20);
        munmap(little, 4 << 20);
        puts("done");
        fflush(stdout);
    }
    return 0;
}
"""
TOUCHED = {"touch_most": 40 * MIB, "touch_some": 16 * MIB, "touch_little": 4 * MIB}

# Grows by 1 MiB every 50 ms, while a busy one allocates and frees as fast as it can: a thousand times that, and more.
GROWER = r"""
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
__attribute__((noinline, noclone)) void keep_more(void)
{
    memset(malloc(1 << 20), 1, 1 << 20);
    __asm__ volatile("" ::: "memory");
}
int main(void) { for (;;) { keep_more(); usleep(50000); } }
"""
BUSY = r"""
#include <stdlib.h>
#include <string.h>
int main(void)
{
    for (;;) {
        void *volatile blocks[64];
        for (int i = 0; i < 64; i++) { blocks[i] = malloc(1 << 16); memset(blocks[i], 1, 64); }
        for (int i = 0; i < 64; i++) free(blocks[i]);
    }
}
"""


@pytest.fixture(scope="module")
def toucher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(TOUCHER, tmp_path_factory.mktemp("growth") / "toucher", "-O2")


def estimates(pid: int, process: subprocess.Popen[str], rounds: int) -> Iterator[dict[str, tuple[float, int]]]:
    """Bytes and samples by the function that called for the touching, for each round."""
    for _ in range(rounds):
        sampler = GrowthSampler(pid)
        try:
            assert answer(process, "go") == "done"
            window = sampler.read()
        finally:
            sampler.close()
        with Symbolizer(Process(pid)) as symbolizer:
            found = dict.fromkeys(TOUCHED, (0.0, 0))
            for stack in window.stacks_of(pid, symbolizer):
                for name in {frame.name for frame in stack.frames} & TOUCHED.keys():
                    size, samples = found[name]
                    found[name] = size + stack.touched_bytes, samples + stack.samples
        yield found


@pytest.mark.ebpf
def test_estimates_are_unbiased_and_as_near_as_they_say(toucher: Path) -> None:
    """GIVEN a program that touches known bytes, WHEN it is sampled again and again, THEN the mean is the truth."""
    with running(toucher) as process:
        assert answer(process) == "ready"
        rounds = list(estimates(process.pid, process, 24))
    for name, touched in TOUCHED.items():
        sizes = [found[name][0] for found in rounds]
        # One standard error of a single round, as the report states it: the square root of its samples.
        stated = statistics.mean(math.sqrt(samples) for _, samples in (found[name] for found in rounds))
        per_sample = statistics.mean(size / samples for size, samples in (f[name] for f in rounds) if samples)
        error = stated * per_sample
        assert abs(statistics.mean(sizes) - touched) < 4 * error / math.sqrt(len(rounds)), (name, sizes)
        # Samples are taken at a fixed distance, so that they scatter less than the stated error, not more.
        assert statistics.pstdev(sizes) < 1.5 * error, (name, sizes)


@pytest.mark.ebpf
def test_the_function_that_called_memset_is_not_lost(toucher: Path) -> None:
    """memset has no frame: frame pointers alone lead from it to main, past the function that called it."""
    with running(toucher) as process:
        assert answer(process) == "ready"
        sampler = GrowthSampler(process.pid)
        assert answer(process, "go") == "done"
        window = sampler.read()
        sampler.close()
        with Symbolizer(Process(process.pid)) as symbolizer:
            worst = window.stacks_of(process.pid, symbolizer)[0]
    assert [frame.name for frame in worst.frames[1:3]] == ["touch_most", "main"]


@pytest.mark.ebpf
def test_watch_ranks_the_grower_first_beside_a_busy_process(tmp_path: Path) -> None:
    grower = compile_c(GROWER, tmp_path / "grower", "-O2")
    busy = compile_c(BUSY, tmp_path / "busy", "-O2")
    with running(grower) as leaking, running(busy) as working:
        watched = watch(lambda: [leaking.pid, working.pid], 3.0, 5, time.sleep)
    assert [grower.pid for grower in watched.growers] == [leaking.pid]
    first = watched.growers[0]
    assert first.growth_bytes > 20 * MIB
    assert "keep_more" in {frame.name for frame in first.stacks[0].frames}
    assert watched.lost == 0


@pytest.mark.ebpf
def test_watch_has_whole_stacks_of_what_grows_without_frame_pointers(tmp_path: Path) -> None:
    grower = compile_c(GROWER, tmp_path / "grower", "-O2", "-fomit-frame-pointer")
    with running(grower) as leaking:
        watched = watch(lambda: [leaking.pid], 5.0, 5, time.sleep)
    (first,) = watched.growers
    names = [frame.name for frame in first.stacks[0].frames]
    assert names[names.index("keep_more") + 1] == "main"
    assert names[-1] == "_start"
    # The samples of all say how much, from the beginning of the window on.
    touched = sum(stack.touched_bytes for stack in first.stacks)
    assert touched == pytest.approx(first.growth_bytes, rel=0.3)


@pytest.mark.ebpf
def test_the_last_line_of_watch_is_the_command_to_run(tmp_path: Path) -> None:
    grower = compile_c(GROWER, tmp_path / "grower", "-O2")
    with running(grower) as leaking:
        done = subprocess.run(
            [MEMLEAK_LAB, "watch", "--duration", "3s", "--top", "100"], capture_output=True, text=True, check=True
        )
    assert f"pid {leaking.pid} grew by" in done.stdout
    assert re.fullmatch(r".*memleak-lab trace --pid \d+", done.stdout.splitlines()[-1])


@pytest.mark.ebpf
def test_what_was_watched_is_also_json(tmp_path: Path) -> None:
    grower = compile_c(GROWER, tmp_path / "grower", "-O2")
    with running(grower) as leaking:
        done = subprocess.run(
            [MEMLEAK_LAB, "watch", "--duration", "3s", "--top", "100", "--format", "json"],
            capture_output=True,
            text=True,
            check=True,
        )
    watched = json.loads(done.stdout)
    first = next(each for each in watched["growers"] if each["pid"] == leaking.pid)
    assert first["growth_bytes"] > 5 * MIB
    assert "keep_more" in {frame["function"] for frame in first["stacks"][0]["frames"]}


@pytest.mark.ebpf
def test_it_is_looked_at_every_second_while_it_is_watched(tmp_path: Path) -> None:
    grower = compile_c(GROWER, tmp_path / "grower", "-O2")
    looks: list[Any] = []
    with running(grower) as leaking:
        watch(lambda: [leaking.pid], 3.0, 5, time.sleep, look=looks.append)
    assert len(looks) == 3
    grown = [look[0].growth_bytes for look in looks]
    assert grown == sorted(grown)
    assert 0 < grown[0] < grown[-1]


def test_the_table_is_cut_to_the_terminal() -> None:
    growing = [Growth(1234567, "/usr/bin/python3 -m service " + "--option " * 50, 900 * MIB, 12 * MIB)]
    console = Console(width=80)
    with console.capture() as captured:
        console.print(growth_table(growing, 80))
    lines = captured.get().splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
    assert "12.0 MiB" in lines[1]
    assert lines[1].rstrip().endswith("…")


@pytest.mark.ebpf
def test_light_names_the_code_that_makes_it_grow(tmp_path: Path) -> None:
    grower = compile_c(GROWER, tmp_path / "grower", "-O2")
    with running(grower) as leaking:
        done = subprocess.run(
            [MEMLEAK_LAB, "trace", "--light", "--pid", str(leaking.pid), "--duration", "4s", "--format", "json"],
            capture_output=True,
            text=True,
            check=True,
        )
    report = json.loads(done.stdout)
    assert report["verdict"]["answer"] == "growing"
    assert (report["verdict"]["function"], report["verdict"]["caller"]) == ("keep_more", "main")
    worst = report["stacks"][0]
    growth = report["truth"]["anonymous_bytes_end"] - report["truth"]["anonymous_bytes_start"]
    assert abs(worst["touched_bytes"] - growth) < 5 * worst["error_bytes"] + MIB


@pytest.mark.ebpf
def test_light_finds_no_growth_where_there_is_none(tmp_path: Path) -> None:
    busy = compile_c(BUSY, tmp_path / "busy", "-O2")
    with running(busy) as working:
        done = subprocess.run(
            [MEMLEAK_LAB, "trace", "--light", "--pid", str(working.pid), "--duration", "3s", "--format", "json"],
            capture_output=True,
            text=True,
            check=True,
        )
    verdict = json.loads(done.stdout)["verdict"]
    assert not verdict["leak"]
    assert verdict["summary"].startswith("No growth found")


def test_a_pid_namespace_of_its_own_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "pid"
    link.symlink_to("pid:[4026532001]")
    with pytest.raises(LabError, match=r"pid namespace of its own.*hostPID: true"):
        GrowthSampler(os.getpid(), own_namespace=link)
