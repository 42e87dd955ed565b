"""One run of a tool: started, waited for until it is attached, ended by Ctrl-C, and its output kept."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from diagnosis.base.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

PROC = Path("/proc")
ATTACH_SECONDS = 60.0
# A tool is in place when it has as many of the kernel's tracing files open as it has probes, and has had for this long.
SETTLED_SECONDS = 1.0
END_SECONDS = 60.0
POLL_SECONDS = 0.05
MAX_ERRORS = 1 << 20
# A shell's background job, and so all that it starts, ignores what ends the tools here.
WITH_CTRL_C = ("env", "--default-signal=INT")
TRACING_FILES = ("anon_inode:[perf_event]", "anon_inode:bpf_link", "anon_inode:bpf-link")


class Session:
    """A tool's process, in a session of its own. Use it as a context manager.

    Args:
        command: what to run.
        environment: variables besides this process's own.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = command
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the session
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [*WITH_CTRL_C, *command],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._errors,
            start_new_session=True,
        )

    def wait_until_attached(self, probes: int) -> None:
        """Wait until the tool's probes are in place.

        Args:
            probes: how many tracing files the tool has open at least when they are.

        Raises:
            LabError: it ended, or did not come to that; the text holds what it wrote to standard error.
        """
        began = changed = time.monotonic()
        files = 0
        while files < probes or time.monotonic() - changed < SETTLED_SECONDS:
            if self._process.poll() is not None or time.monotonic() - began > ATTACH_SECONDS:
                raise LabError(f"{self._command[0]} attached {files} of {probes} probes: {self.stderr()}")
            now = sum(_tracing_files(pid) for pid in _members(self._process.pid))
            if now != files:
                files, changed = now, time.monotonic()
            time.sleep(POLL_SECONDS)

    def wait_until_said(self, text: str) -> None:
        """Wait until the tool has written a text to standard error.

        Raises:
            LabError: it ended, or did not write it in time.
        """
        began = time.monotonic()
        while text not in self.stderr():
            if self._process.poll() is not None or time.monotonic() - began > ATTACH_SECONDS:
                raise LabError(f"{self._command[0]} did not say {text!r}: {self.stderr()}")
            time.sleep(POLL_SECONDS)

    def finish(self, after_seconds: float = 0.0) -> str:
        """Return the tool's output. Unless it ends by itself within a while, it is ended as Ctrl-C does.

        Raises:
            LabError: it does not end.
        """
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(after_seconds)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self._command[0]} did not end in {END_SECONDS:g} s: {self.stderr()}") from error
        self._output.seek(0)
        return self._output.read()

    def stderr(self) -> str:
        """What the tool wrote to standard error."""
        # The tool writes at the file's position: it is left where it is.
        written = os.pread(self._errors.fileno(), MAX_ERRORS, 0)
        return written.decode(errors="replace").strip() or "nothing on standard error"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()
        self._errors.close()


def _members(session: int) -> list[int]:
    """The processes of a session: a tool and what it started."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                # pid (command) state parent group session ...
                if int((entry / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                    found.append(int(entry.name))
    return found


def _tracing_files(pid: int) -> int:
    count = 0
    with suppress(OSError):
        for file in (PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                count += str(file.readlink()).startswith(TRACING_FILES)
    return count
