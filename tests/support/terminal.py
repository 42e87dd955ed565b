"""A command of the product's on a terminal."""

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
from typing import TYPE_CHECKING, Any, Self

from tests.support.waiting import LIMIT_SECONDS

if TYPE_CHECKING:
    from types import TracebackType

MEMLEAK_LAB = Path(sys.executable).with_name("memleak-lab")

COLUMNS, LINES = 100, 40

CONTROL_C = b"\x03"
HIDE_CURSOR, SHOW_CURSOR = b"\x1b[?25l", b"\x1b[?25h"


# A session's leader gets the first terminal that it opens as its own: Ctrl-C there reaches it.
ADOPT_TERMINAL = "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); os.execv(sys.argv[1], sys.argv[1:])"


def without_spaces(text: str) -> str:
    """A text to look for another one in, where a long path may be broken at a line's end."""
    return "".join(text.split())


class Terminal:
    """The command on a terminal. Use it as a context manager, which ends it at the latest."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._terminal, other_end = pty.openpty()
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.modes_before = self.modes()
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
            self.read_more()

    def read_more(self) -> None:
        self.output += os.read(self._terminal, 65_536)

    def modes(self) -> list[Any]:
        """How the terminal treats what is typed, and what is written: echo, lines, signals."""
        return termios.tcgetattr(self._terminal)

    def press(self, key: bytes) -> None:
        os.write(self._terminal, key)

    def close(self) -> None:
        """Close the window."""
        os.close(self._terminal)

    def end(self) -> int:
        """Read the rest: the exit status."""
        self.read_rest()
        self.close()
        return self.status()

    def read_rest(self) -> None:
        """Read until the command has ended."""
        try:
            while more := os.read(self._terminal, 65_536):
                self.output += more
        except OSError:  # EIO: nobody has the terminal open any more
            pass

    def status(self) -> int:
        """Wait for the end: the exit status."""
        return self._process.wait(LIMIT_SECONDS)

    def text(self) -> str:
        """The output without colours and cursor movements."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.output.decode(errors="replace"))
