"""What /proc/PID/status says of a process's signals and filters: what probes can do to it depends on both."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from diagnosis.target.process import PROC
from diagnosis.target.procfs import status_of

if TYPE_CHECKING:
    from pathlib import Path

# glibc's own, for cancelling threads and for setuid in all of them.
_LIBRARY_SIGNALS = frozenset({32, 33})
_FILTER = "2"


def handled_signals(pid: int, proc: Path = PROC) -> tuple[str, ...]:
    """The names of the signals that a process has handlers for; none where it has ended."""
    caught = int(_field(pid, "SigCgt", proc) or "0", 16)
    numbers = [number for number in range(1, 65) if caught >> (number - 1) & 1 and number not in _LIBRARY_SIGNALS]
    return tuple(signal.Signals(number).name if number in _NAMED else f"signal {number}" for number in numbers)


def is_filtered(pid: int, proc: Path = PROC) -> bool:
    """True where a seccomp filter decides on the process's system calls."""
    return _field(pid, "Seccomp", proc) == _FILTER


_NAMED = frozenset(int(each) for each in signal.Signals)


def _field(pid: int, name: str, proc: Path) -> str:
    return status_of(proc / str(pid)).get(name, "")
