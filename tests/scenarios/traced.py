"""A running scenario, traced by the real command, with its ledger served for the command to align its window with."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis.learn.scenarios import Running

MEMLEAK_LAB = Path(sys.executable).with_name("memleak-lab")
WINDOW = ("--duration", "6s")
LIMIT_SECONDS = 120


@contextlib.contextmanager
def served(running: Running) -> Iterator[str]:
    """The address at which the scenario's ledger answers as the lab's own does."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.dumps(asdict(running.reading())).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/ledger"
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Traced:
    """The report of a window, as JSON has it."""

    report: dict[str, Any]

    @property
    def verdict(self) -> dict[str, Any]:
        """The answer, the function, its caller, and the summary."""
        return dict(self.report["verdict"])

    @property
    def leaked(self) -> tuple[int, int]:
        """Bytes and blocks that leaked in the window, by the ledger."""
        ledger = self.report["ledger"]
        assert ledger, "the ledger had no moment of rest that was as long as a reading"
        return ledger["bytes"], ledger["calls"]

    def taken_by(self, function: str) -> tuple[int, int]:
        """Bytes and blocks outstanding of all stacks that a function is in."""
        stacks = [
            stack for stack in self.report["stacks"] if any(frame["function"] == function for frame in stack["frames"])
        ]
        kept = sum(stack["allocations"] - stack["frees"] - stack["older_frees"] for stack in stacks)
        return sum(stack["outstanding_bytes"] - stack["older_bytes"] for stack in stacks), kept

    def part(self, name: str) -> int:
        """A part of the account of memory."""
        account = self.report["account"]
        return sum(each["bytes"] for each in (*account["kinds"], *account["anonymous"]) if each["name"] == name)


class Command:
    """The command under way, so that several can be at once."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [MEMLEAK_LAB, *arguments, "--format", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def result(self) -> dict[str, Any]:
        """What it prints."""
        printed, errors = self._process.communicate(timeout=LIMIT_SECONDS)
        assert self._process.returncode == 0, errors
        return dict(json.loads(printed))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def trace(pid: int, ledger: str) -> Command:
    """Trace for the tests' window."""
    return Command("trace", "--pid", str(pid), *WINDOW, "--ledger", ledger, "--all")
