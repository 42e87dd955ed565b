"""Programs that are made against the tracer, and what its commands make of them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MEMLEAK_LAB = Path(sys.executable).with_name("memleak-lab")
MIB = 1 << 20
MAX_BYTES = 500 * MIB
# Beside whatever else runs. A tracer that hangs takes longer than any limit.
GENEROUS_SECONDS = 90

ESCAPES = "\x1b[2J\x1b]0;owned\x07\n\u202e\x9b31m"
FORGED = f"{ESCAPES}\nRIGHT: forged [bold]x[/nope]"


class Result:
    """What a command printed, and what it took."""

    def __init__(self, command: Sequence[str], environ: dict[str, str] | None = None) -> None:
        began = time.monotonic()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **(environ or {})}
        )
        try:
            out, err = self.process.communicate(timeout=GENEROUS_SECONDS)
        finally:
            self.process.kill()
        self.seconds = time.monotonic() - began
        self.out, self.err = out.decode(), err.decode()

    def check(self, status: int = 0) -> None:
        assert self.process.returncode == status, self.err[-2000:]
        assert "Traceback" not in self.err, self.err[-2000:]
        check_text(self.out)
        check_text(self.err)


def check_text(text: str) -> None:
    """Nothing but printable characters and line feeds, and no line that is another's."""
    odd = {char for char in text if not char.isprintable()} - {"\n"}
    assert not odd, f"{odd} in {text[:3000]!r}"
    assert not re.search("^(RIGHT: forged|VERDICT)", text, re.MULTILINE)


def memleak_lab(*arguments: object) -> Result:
    return Result([str(MEMLEAK_LAB), *map(str, arguments)])


def trace(pid: int, *arguments: object, status: int = 0) -> Result:
    result = memleak_lab("trace", "--pid", pid, "--duration", "1s", *arguments)
    result.check(status)
    return result


def report(pid: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(trace(pid, "--format", "json").out)
    return found


def functions(found: dict[str, Any]) -> list[str]:
    """The names of the stack that holds most."""
    return [frame["function"] for frame in found["stacks"][0]["frames"]]


@contextlib.contextmanager
def hostile(*command: str | Path, name: str = "", user: int = 0) -> Iterator[int]:
    """A program that runs, by its pid, once it has said that it does; ``name`` in place of its own."""
    with subprocess.Popen(
        [name or str(command[0]), *map(str, command[1:])],
        executable=command[0],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        user=user or None,
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


def assemble(text: str, output: Path) -> None:
    """A shared library of assembler text."""
    command = ["cc", "-x", "assembler", "-", "-shared", "-o", str(output)]
    subprocess.run(command, input=text.encode(), check=True)


def metrics(address: str) -> str:
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            text: str = answer.read().decode()
            return text
    except (OSError, urllib.error.URLError):
        return ""


@contextlib.contextmanager
def exporting(pid: int, port: int, seconds: int = 600) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A trace that serves its numbers, once it answers; and that ends as it should."""
    address = f"127.0.0.1:{port}"
    command = [str(MEMLEAK_LAB), "trace", "--pid", str(pid), "--listen", address, "--duration", f"{seconds}s"]
    with subprocess.Popen(
        [*command, "--interval", "0.2s"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as tracer:
        try:
            wait_until(lambda: bool(metrics(address)), "the metrics are served", 60)
            yield address, tracer
            tracer.send_signal(signal.SIGINT)
            tracer.communicate(timeout=GENEROUS_SECONDS)
            assert tracer.returncode == 0
        finally:
            tracer.kill()
