"""What comes from a learner's terminal, or from what stands in its place."""

from __future__ import annotations

import io
import subprocess
import sys

from rich.console import Console

from diagnosis.learn.terminal import run_command


def test_a_command_with_a_null_byte_is_an_error_and_no_traceback() -> None:
    printed = io.StringIO()
    run_command("a\0b", Console(file=printed))
    assert "null byte" in printed.getvalue()


def test_bytes_that_are_no_utf_8_are_read_as_what_they_are() -> None:
    code = (
        "from diagnosis.cli import main; from diagnosis.learn.terminal import read_line;"
        "main.app = lambda **_: read_line('> ') and 0; main.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], input=b"a\xffb\n", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"> a\\xffb\n", b"")
