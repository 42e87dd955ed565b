"""`memleak-lab run` on a terminal: the live view, and Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.lab.command import MEMLEAK_LAB, descendants
from tests.support.waiting import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    from types import TracebackType

CONTROL_C = b"\x03"
HIDE_CURSOR, SHOW_CURSOR = b"\x1b[?25l", b"\x1b[?25h"


# A session's leader gets the first terminal that it opens as its own: Ctrl-C there reaches it.
ADOPT_TERMINAL = "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); os.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """The command on a terminal of 100 columns. Use it as a context manager, which ends it at the latest."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._terminal, other_end = pty.openpty()
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", ADOPT_TERMINAL, MEMLEAK_LAB, *arguments],
            cwd=folder,
            env={**os.environ, "TERM": "xterm-256color"},
            stdin=other_end,
            stdout=other_end,
            stderr=other_end,
            start_new_session=True,
        )
        os.close(other_end)
        self.pid = self._process.pid
        self.output = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def read_until(self, text: bytes) -> None:
        while text not in self.output:
            self.output += os.read(self._terminal, 65_536)

    def press(self, key: bytes) -> None:
        os.write(self._terminal, key)

    def close(self) -> None:
        """Close the window."""
        os.close(self._terminal)

    def end(self) -> int:
        """Read the rest: the exit status."""
        try:
            while more := os.read(self._terminal, 65_536):
                self.output += more
        except OSError:  # EIO: nobody has the terminal open any more
            pass
        self.close()
        return self.status()

    def status(self) -> int:
        """Wait for the end: the exit status."""
        return self._process.wait(LIMIT_SECONDS)

    def text(self) -> str:
        """The output without colours and cursor movements."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.output.decode())


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
