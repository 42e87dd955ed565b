"""The lab's own processes: the service and its visitors, started for a run and ended with it."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from diagnosis.base.errors import LabError
from diagnosis.lab.unprivileged import command_as

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from diagnosis.lab.unprivileged import User

# The folder that holds the packages `service` and `diagnosis`.
PROJECT = Path(__file__).resolve().parents[2]

START_SECONDS = 20.0
STOP_SECONDS = 3.0


class Child:
    """A Python module of this project as a process of an unprivileged user. Use it as a context manager.

    Args:
        module: what ``python -m`` runs.
        settings: its environment variables.
        user: the user that it runs as.
    """

    def __init__(self, module: str, settings: Mapping[str, str], user: User) -> None:
        self.module = module
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._process = subprocess.Popen(
            command_as(user, PROJECT, [sys.executable, "-P", "-m", module]),
            # -P and PYTHONPATH: the project is found by name, whatever lies in the current folder.
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": str(PROJECT), **settings},
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # Ctrl-C goes to the terminal's whole process group: the run decides when its children end.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process id of the module itself: no shell and no launcher stays in between."""
        return self._process.pid

    def first_event(self) -> dict[str, object]:
        """The first line that the module prints: a JSON object.

        Raises:
            LabError: it ended, or printed nothing in time; the text holds what it wrote to standard error.
        """
        stdout = self._process.stdout
        if stdout is None:
            raise RuntimeError("the child has no pipe")
        ready, _, _ = select.select([stdout], [], [], START_SECONDS)
        line = stdout.readline() if ready else b""
        try:
            event = json.loads(line)
        except ValueError as error:
            printed = f"it printed {line!r}" if line else "it printed nothing"
            raise LabError(f"{self.module} did not start", self._stderr() or printed) from error
        if not isinstance(event, dict):
            raise LabError(f"{self.module} did not start", f"it printed {line!r}")
        return event

    def check(self) -> None:
        """Raise a LabError if the process has ended."""
        status = self._process.poll()
        if status is not None:
            raise LabError(f"{self.module} ended with status {status}", self._stderr() or "it printed nothing")

    def stop(self) -> None:
        """End the process: with SIGTERM, and after a while with SIGKILL."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._errors.close()

    def _stderr(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
