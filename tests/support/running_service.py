"""Start the real `python -m service` and its visitors, talk to them, stop them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from service.config import ServiceConfig
from tests.support.waiting import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024
# 1 MiB every 8 s from second 30 to second 3600.
END_OF_DEGRADED_BYTES = 447 * MIB
FREE_PORTS = ServiceConfig.on_free_ports().environ()


def fetch(address: str, path: str) -> httpx.Response:
    """GET on a connection of its own. Certificates are not loaded for it: that takes longer than most answers."""
    return httpx.get(f"http://{address}{path}", trust_env=False, verify=False)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without its LAB_ variables, and with `variables`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LAB_")} | dict(variables)


@dataclass
class Program:
    """A child that writes events, one JSON line each, and should write nothing on standard error."""

    process: subprocess.Popen[str]
    errors: IO[str]

    def event(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"it ended instead of writing an event; standard error: {self.stderr()}"
        event: dict[str, Any] = json.loads(line)
        return event

    def stderr(self) -> str:
        self.errors.seek(0)
        return self.errors.read()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and wait for the end: seconds it took."""
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(LIMIT_SECONDS)
        return time.monotonic() - started


@dataclass
class Service(Program):
    """`python -m service`, listening."""

    http: str
    metrics: str
    ledger_address: str

    @property
    def port(self) -> int:
        return int(self.http.rpartition(":")[2])

    def get(self, path: str) -> httpx.Response:
        return fetch(self.http, path)

    def ledger(self) -> dict[str, Any]:
        ledger: dict[str, Any] = fetch(self.ledger_address, "/ledger").json()
        return ledger

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Every sample of /metrics, by name and sorted labels."""
        text = fetch(self.metrics, "/metrics").text
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """One sample, or the sum of those that have these labels; 0 if there is none."""
        wanted = set(labels.items())
        return sum(value for (own, pairs), value in self.samples().items() if own == name and wanted <= set(pairs))

    def resident_bytes(self) -> int:
        """What the kernel says."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def _program(module: str, variables: Mapping[str, str], wrapper: Sequence[str] = ()) -> Iterator[Program]:
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", module],
            cwd=ROOT,
            env=environment(variables),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            yield Program(process, errors)
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


@contextlib.contextmanager
def running_service(*wrapper: str, **variables: str) -> Iterator[Service]:
    """`python -m service` on free ports of 127.0.0.1, with these variables besides; ``wrapper`` execs it."""
    with _program("service", FREE_PORTS | variables, wrapper) as program:
        event = program.event()
        assert event["event"] == "listening"
        assert event["pid"] == program.process.pid
        yield Service(program.process, program.errors, event["http"], event["metrics"], event["ledger"])


@contextlib.contextmanager
def running_degraded_service() -> Iterator[Service]:
    """A service that holds what has leaked by the end of the degraded phase, and leaks no more."""
    with running_service(LAB_SPEED="1000", LAB_CAP_BYTES=str(END_OF_DEGRADED_BYTES)) as service:

        def is_over() -> bool:
            ledger = service.ledger()
            return bool(ledger["phase"] == "diagnosis" and ledger["bytes_live"] == END_OF_DEGRADED_BYTES)

        wait_until(is_over, "the degraded phase ends")
        yield service


@contextlib.contextmanager
def running_visitors(**variables: str) -> Iterator[Program]:
    """`python -m service.visitors` with these variables."""
    with _program("service.visitors", variables) as program:
        assert program.event()["event"] == "visiting"
        yield program
