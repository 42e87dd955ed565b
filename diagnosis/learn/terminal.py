"""The learner's terminal: what is printed and read there, and commands that are run in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from rich.console import Console
from rich.text import Text

from diagnosis.base.own_command import bin_folder

__all__ = ["learner_console", "read_line", "run_command"]

# Wider lines are hard to read, and many terminals are no wider.
WIDTH = 80


def learner_console() -> Console:
    """Standard output, at most 80 columns wide; text is printed as it is, without markup."""
    usual = Console(markup=False, emoji=False, highlight=False)
    width = min(WIDTH, usual.width) if usual.is_terminal else WIDTH
    return Console(markup=False, emoji=False, highlight=False, width=width)


def read_line(prompt: str) -> str | None:
    """A line from the terminal, or from what stands in its place; None at its end, or where there is none."""
    if sys.stdin is None:  # it was closed before this program began
        return None
    if sys.stdin.isatty():
        import readline  # noqa: F401, PLC0415 - makes input() an editor of lines, and only where there is a terminal

        try:
            return input(prompt)
        except EOFError:
            return None
    line = sys.stdin.readline()
    if not line:
        return None
    sys.stdout.write(f"{prompt}{line.rstrip()}\n")
    sys.stdout.flush()
    return line


def run_command(line: str, console: Console) -> None:
    """Run a command of the machine, as a shell would; Ctrl-C ends it, and not the session."""
    folder = bin_folder()
    path = [os.environ.get("PATH", os.defpath), *([str(folder)] if folder else [])]
    console.file.flush()
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        subprocess.run(
            [os.environ.get("SHELL", "/bin/sh"), "-c", line],
            env={**os.environ, "PATH": os.pathsep.join(path)},
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, ValueError) as error:  # ValueError: a line with a null byte
        console.print(Text(str(error), style="red"))
    finally:
        signal.signal(signal.SIGINT, before)
