"""Small C programs: compiled for a test, and running for as long as the test looks at them."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Frames that unwinding by frame pointer finds, as in native/leak.
FRAMES = ("-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer", "-fno-optimize-sibling-calls")


def compile_c(source: str, output: Path, *flags: str) -> Path:
    """Compile C text to ``output``; the text stays beside it, as ``output`` with ``.c``."""
    text = output.with_name(f"{output.name}.c")
    text.write_text(source)
    subprocess.run(
        ["cc", "-std=gnu17", "-O1", "-Wall", "-Werror", *FRAMES, str(text), "-o", str(output), *flags],
        check=True,
        text=True,
        stderr=subprocess.PIPE,
    )
    return output


@contextlib.contextmanager
def running(*command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A program with pipes at both ends, killed at the end."""
    with subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def answer(process: subprocess.Popen[str], question: str = "") -> str:
    """Send a line, where there is one to send; returns the line that the program prints next."""
    assert process.stdin
    assert process.stdout
    if question:
        process.stdin.write(f"{question}\n")
        process.stdin.flush()
    line = process.stdout.readline()
    assert line, f"{process.args!r} ended with status {process.wait(5)}"
    return line.rstrip("\n")
