"""The service as a child of what measures it, and the machine that it is measured on."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from diagnosis.lab.service_env import FREE_PORTS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
MIB: Final = 1024 * 1024
# What has leaked by the end of the degraded phase: 1 MiB every 8 s from second 30 to second 3600.
END_OF_DEGRADED_BYTES: Final = 447 * MIB
START_SECONDS: Final = 30.0
BEGIN: Final = "<!-- begin: make bench-service -->"
END: Final = "<!-- end -->"
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextlib.contextmanager
def running_service(*wrapper: str, **variables: str) -> Iterator[dict[str, Any]]:
    """The service as a child on free ports: its listening event. ``wrapper`` execs it."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")}
    with subprocess.Popen(
        [*wrapper, sys.executable, "-m", "service"],
        cwd=ROOT,
        env=environ | FREE_PORTS | variables,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            if process.stdout is None or not (line := process.stdout.readline()):
                raise RuntimeError("the service did not start: its own line above says why")
            yield json.loads(line)
        finally:
            process.terminate()


def machine() -> dict[str, str | int]:
    """What the numbers depend on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": f"{os.getloadavg()[0]:.2f}",
    }


def fetch(address: str, path: str) -> bytes:
    """The body at ``HOST:PORT``, on a connection of its own.

    Raises:
        OSError: there is no answer, or none with status 200.
    """
    with _opener.open(f"http://{address}{path}", timeout=START_SECONDS) as answer:
        body: bytes = answer.read()
    return body


def until_degraded(ledger: str) -> None:
    """Wait until everything that leaks up to the end of the degraded phase has leaked.

    Raises:
        TimeoutError: it takes longer than `START_SECONDS`.
    """
    until = time.monotonic() + START_SECONDS
    while True:
        reading = json.loads(fetch(ledger, "/ledger"))
        if reading["phase"] == "diagnosis" and reading["bytes_live"] == END_OF_DEGRADED_BYTES:
            return
        if time.monotonic() > until:
            raise TimeoutError(f"{reading['bytes_live'] >> 20} MiB have leaked within {START_SECONDS:g} s")
        time.sleep(0.05)


def describe(where: dict[str, str | int]) -> str:
    """A line about the machine."""
    return "{cpu}, {cores} cores, Linux {kernel}, Python {python}, load {load_before} before.".format(**where)


def write_between_marks(document: Path, text: str, begin: str = BEGIN) -> None:
    """Replace what a document has between the marks of a command."""
    head, rest = document.read_text().split(begin, 1)
    document.write_text(f"{head}{begin}\n\n{text}\n\n{END}{rest.split(END, 1)[1]}")
