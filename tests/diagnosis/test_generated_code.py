"""Names of code that is made at run time."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.process import Process
from diagnosis.target.symbols import Frame, Symbolizer
from tests.support.programs import answer, compile_c, running

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator


def test_generated_code_has_no_name_but_is_code(folder: Path) -> None:
    """What a JIT compiler writes: anonymous memory that is executable."""
    source = """
        #include <stdio.h>
        #include <sys/mman.h>
        int main(void)
        {
            void *code = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            printf("%p\\n", code);
            fflush(stdout);
            getchar();
            return 0;
        }
    """
    with running(compile_c(source, folder / "jit")) as program, Symbolizer(Process(program.pid)) as symbolizer:
        stack = symbolizer.symbolize([int(answer(program), 16) + 0x10])
    assert stack.frames == (Frame("", "[anonymous]", "", 0, 0x10),)
    assert stack.frames[0].name == "[anonymous]+0x10"
    assert not stack.broken


# Maps a page as code, names it in its perf map as it is told to, and prints the page's address; then waits.
JIT = """
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/mman.h>
    #include <unistd.h>
    int main(int count, char **lines)
    {
        char *code = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), name[64];
        printf("%p\\n", (void *)code);
        fflush(stdout);
        snprintf(name, sizeof name, "/tmp/perf-%d.map", getpid());
        while (getchar() != EOF) {
            FILE *map = fopen(name, "a");
            for (int i = 1; i < count; i++)
                fprintf(map, "%lx 10 %s\\n", (unsigned long)code + 16 * (i - 1), lines[i]);
            fclose(map);
            puts("named");
            fflush(stdout);
        }
        return unlink(name);
    }
"""


@contextlib.contextmanager
def generating(folder: Path, *names: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A program with generated code of these names, 16 bytes each; the program, and where the code is."""
    with running(compile_c(JIT, folder / "jit-named"), *names) as program:
        try:
            yield program, int(answer(program), 16)
        finally:
            Path(f"/tmp/perf-{program.pid}.map").unlink(missing_ok=True)


def test_generated_code_has_the_names_of_its_perf_map(folder: Path) -> None:
    """GIVEN code that was looked up before its compiler named it WHEN it has a name THEN it is known by that."""
    with (
        generating(folder, "JS:~fill /srv/app.js:7", "JS:~keep\x1b[2J") as (program, code),
        Symbolizer(Process(program.pid)) as symbolizer,
    ):
        assert symbolizer.symbolize([code + 4]).frames[0].name == "[anonymous]+0x4"
        answer(program, "x")
        symbolizer.refresh()
        stack = symbolizer.symbolize([code + 4, code + 16, code + 20, code + 40])
    assert [frame.name for frame in stack.frames] == [
        "JS:~fill /srv/app.js:7",
        "JS:~fill /srv/app.js:7",  # a return address one past its end is a call inside
        "JS:~keep\\x1b[2J",
        "[anonymous]+0x28",
    ]


@pytest.mark.root
def test_a_perf_map_of_another_user_is_not_read(folder: Path) -> None:
    """Anybody can write to /tmp, also under the name of another's map."""
    with generating(folder, "forged") as (program, code), Symbolizer(Process(program.pid)) as symbolizer:
        answer(program, "x")
        os.chown(f"/tmp/perf-{program.pid}.map", 65_534, 65_534)
        assert symbolizer.symbolize([code + 4]).frames[0].function == ""


@pytest.mark.parametrize(
    ("program", "without", "behind"),
    [
        ("libjvm.so", "jcmd {pid} Compiler.perfmap", "jcmd {pid} Compiler.perfmap"),
        ("node", "node --perf-basic-prof", ""),
        ("jit-of-its-own", "", ""),
    ],
)
def test_code_without_names_is_said_with_the_line_that_names_it(
    folder: Path, program: str, without: str, behind: str
) -> None:
    """GIVEN generated code WHEN its map is missing, or lacks it THEN what to type is known, where the runtime is."""
    compiled = compile_c(JIT, folder / program)
    with running(compiled, "first") as process, Symbolizer(Process(process.pid)) as symbolizer:
        code = int(answer(process), 16)
        try:
            symbolizer.symbolize([code + 4])
            before = symbolizer.lost_names()
            answer(process, "x")
            symbolizer.refresh()
            symbolizer.symbolize([code + 4])
            assert not symbolizer.lost_names()
            symbolizer.symbolize([code + 4, code + 40])
            after = symbolizer.lost_names()
        finally:
            Path(f"/tmp/perf-{process.pid}.map").unlink(missing_ok=True)

    for found, remedy in ((before, without), (after, behind)):
        assert remedy.format(pid=process.pid) in "".join(found.values())
        assert bool(found) == bool(remedy)
