"""`memleak-lab run` on a terminal: the live view, and Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from pathlib import Path

import pytest

from tests.diagnosis.waiting import wait_until
from tests.lab.command import MEMLEAK_LAB, descendants

CONTROL_C = b"\x03"
HIDE_CURSOR, SHOW_CURSOR = b"\x1b[?25l", b"\x1b[?25h"


class Terminal:
    """The command on a terminal of 100 columns."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.pid, self._terminal = pty.fork()
        if not self.pid:
            os.chdir(folder)
            os.environ["TERM"] = "xterm-256color"
            os.environ.pop("NO_COLOR", None)
            os.execv(MEMLEAK_LAB, [str(MEMLEAK_LAB), *arguments])
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.output = b""

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
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def text(self) -> str:
        """The output without colours and cursor movements."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.output.decode())


@pytest.mark.ebpf
def test_ctrl_c_on_the_live_view_gives_the_terminal_back(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, *["run", "--speed", "60", "--duration", "1h"])
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
@pytest.mark.timeout(60)
def test_a_window_that_is_closed_ends_the_run(tmp_path: Path) -> None:
    """The terminal is gone: what the view still wants to draw cannot be written."""
    terminal = Terminal(tmp_path, *["run", "--speed", "60", "--duration", "1h"])
    terminal.read_until(b"what the kernel knows")
    children = descendants(terminal.pid)
    assert len(children) == 2
    terminal.close()
    assert terminal.status() != 0
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "its processes are gone")
