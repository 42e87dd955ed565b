"""`memleak-lab watch` on a terminal: a table that refreshes, and the terminal afterwards."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import compile_c, running
from tests.support.terminal import COLUMNS, CONTROL_C, HIDE_CURSOR, SHOW_CURSOR, Terminal

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20

# Grows by the first argument, in KiB, twenty times a second.
GROWER = r"""
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
__attribute__((noinline, noclone)) void keep_more(size_t bytes)
{
    memset(malloc(bytes), 1, bytes);
    __asm__ volatile("" ::: "memory");
}
int main(int count, char **arguments)
{
    (void)count;
    for (;;) { keep_more(atol(arguments[1]) << 10); usleep(50000); }
}
"""
LONG = "--option=" + "x" * 200


@pytest.fixture
def grower(tmp_path: Path) -> Path:
    return compile_c(GROWER, tmp_path / "grower", "-O2")


def sizes(text: str, pid: int) -> list[str]:
    """What a process grew by, in each of the tables that were drawn."""
    return re.findall(rf"\b{pid} +(\d+\.?\d* MiB) ", text)


@pytest.mark.ebpf
def test_the_table_refreshes_and_ctrl_c_gives_the_terminal_back(grower: Path, tmp_path: Path) -> None:
    with (
        running(grower, "512", LONG) as slow,
        running(grower, "2048", LONG) as fast,
        Terminal(tmp_path, "watch", "--duration", "10m", "--top", "30") as terminal,
    ):
        while len(set(sizes(terminal.text(), fast.pid))) < 3:
            terminal.read_more()
        terminal.press(CONTROL_C)
        terminal.read_rest()
        assert terminal.modes() == terminal.modes_before
        assert terminal.end() == 0
    text = terminal.text()
    assert f"pid {fast.pid} grew by" in text  # what was seen so far
    assert terminal.output.rindex(SHOW_CURSOR) > terminal.output.rindex(HIDE_CURSOR)
    pids = {slow.pid, fast.pid}
    rows = [line for line in re.split(r"[\r\n]+", text) if (first := line.split()[:1]) and first[0] in map(str, pids)]
    assert max(map(len, rows)) <= COLUMNS
    assert all(row.rstrip().endswith("…") for row in rows)
    # In the last table the one that grew most stands first.
    assert [int(row.split()[0]) for row in rows[-2:]] == [fast.pid, slow.pid]


@pytest.mark.ebpf
def test_json_is_what_is_left_on_the_terminal(grower: Path, tmp_path: Path) -> None:
    with (
        running(grower, "2048") as growing,
        Terminal(tmp_path, "watch", "--duration", "3s", "--top", "30", "--format", "json") as terminal,
    ):
        assert terminal.end() == 0
    text = terminal.text()
    assert sizes(text, growing.pid)  # the table, until the result is there
    watched = json.loads(text[text.index("{") :])
    (found,) = (each for each in watched["growers"] if each["pid"] == growing.pid)
    assert found["growth_bytes"] > 10 * MIB
