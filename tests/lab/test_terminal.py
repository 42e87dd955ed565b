"""`memleak-lab run` on a terminal: the live view, and Ctrl-C."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.command import descendants
from tests.support.terminal import CONTROL_C, HIDE_CURSOR, SHOW_CURSOR, Terminal
from tests.support.waiting import wait_until


@pytest.mark.ebpf
def test_ctrl_c_on_the_live_view_gives_the_terminal_back(tmp_path: Path) -> None:
    with Terminal(tmp_path, *["run", "--speed", "60", "--duration", "1h"]) as terminal:
        terminal.read_until(b"what the kernel knows")
        children = descendants(terminal.pid)
        assert len(children) == 2
        terminal.press(CONTROL_C)
        assert terminal.end() == 130
    assert "memleak-lab: interrupted: everything it started is gone" in terminal.text()
    assert terminal.output.rindex(SHOW_CURSOR) > terminal.output.rindex(HIDE_CURSOR)
    assert "healthy" in terminal.text()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "its processes are gone")


@pytest.mark.ebpf
def test_a_window_that_is_closed_ends_the_run(tmp_path: Path) -> None:
    """The terminal is gone: what the view still wants to draw cannot be written."""
    with Terminal(tmp_path, *["run", "--speed", "60", "--duration", "1h"]) as terminal:
        terminal.read_until(b"what the kernel knows")
        children = descendants(terminal.pid)
        assert len(children) == 2
        terminal.close()
        assert terminal.status() != 0
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "its processes are gone")
