"""Run the command `memleak-lab` as a user does, and find what it leaves behind: processes, eBPF objects, files."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from diagnosis.target.process import Process
from tests.support.waiting import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    from types import TracebackType

MEMLEAK_LAB = Path(sys.executable).with_name("memleak-lab")

PR_SET_CHILD_SUBREAPER = 36

# bpf(2): the commands that find a program, a map or a link by its id, and the system call's number.
GET_FD_BY_ID = {"prog_id": 13, "map_id": 14, "link_id": 30}
BPF_CALL = {"x86_64": 321, "aarch64": 280}[os.uname().machine]

LIBC = ctypes.CDLL(None, use_errno=True)


def adopt_orphans(*, adopt: bool) -> None:
    """Let processes whose parents end become this one's children, and not the init process's: so they are found."""
    assert LIBC.prctl(PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0) == 0


def own_children() -> set[int]:
    """Every child of this process, also one that has ended and was not waited for."""
    children = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if path.read_bytes().rpartition(b")")[2].split()[1] == str(os.getpid()).encode():
                children.add(int(path.parent.name))
    return children


def descendants(pid: int) -> set[int]:
    """Every process below one, however deep."""
    found: set[int] = set()
    for child in Process(pid).children():
        with contextlib.suppress(Exception):  # it has ended meanwhile
            found |= {child} | descendants(child)
    return found


@dataclass(frozen=True)
class BpfObject:
    """A program, map or link in the kernel, by its kind (as /proc/PID/fdinfo calls it) and id."""

    kind: str
    identity: int

    def exists(self) -> bool:
        """Ask the kernel."""
        attribute = ctypes.create_string_buffer(self.identity.to_bytes(4, sys.byteorder), 128)
        descriptor = LIBC.syscall(BPF_CALL, GET_FD_BY_ID[self.kind], attribute, len(attribute))
        if descriptor >= 0:
            os.close(descriptor)
        return bool(descriptor >= 0)


def bpf_objects(pid: int) -> set[BpfObject]:
    """What a process holds of eBPF."""
    found = set()
    for path in Path(f"/proc/{pid}/fdinfo").glob("*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in path.read_text().splitlines():
                kind, _, value = line.partition(":")
                if kind in GET_FD_BY_ID:
                    found.add(BpfObject(kind, int(value)))
    return found


@dataclass
class Command:
    """`memleak-lab` with some arguments, in a folder of its own. Use it as a context manager.

    It leads a process group, as a command on a terminal does.
    """

    folder: Path
    arguments: tuple[str, ...]
    lines: list[str] = field(default_factory=list)
    bpf: set[BpfObject] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._children_before = own_children()
        self._errors = (self.folder.parent / f"{self.folder.name}.stderr").open("w+")
        self._process = subprocess.Popen(
            [MEMLEAK_LAB, *self.arguments],
            cwd=self.folder,
            env={**os.environ, "TMPDIR": str(self.folder), "HOME": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self.stop_reading()
        self._errors.close()
        for pid in own_children() - self._children_before:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    @property
    def pid(self) -> int:
        return self._process.pid

    def read_until(self, text: str) -> str:
        """Read its output up to the line that holds a text."""
        assert self._process.stdout
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return self.lines[-1]
        raise AssertionError(f"{text!r} did not come: {self.lines}, and on standard error: {self.stderr()}")

    def note_bpf(self) -> set[BpfObject]:
        """What it holds of eBPF now; all that was ever noted has to be gone in the end."""
        held = bpf_objects(self.pid)
        self.bpf |= held
        return held

    def send(self, number: signal.Signals) -> None:
        """Send a signal as a terminal does: to the whole group; SIGKILL to the command alone."""
        if number is signal.SIGKILL:
            self._process.kill()
        else:
            os.killpg(self.pid, number)

    def end(self, seconds: float = LIMIT_SECONDS) -> int:
        """Wait for its end: its exit status, negative where a signal ended it."""
        if self._process.stdout and not self._process.stdout.closed:
            self.lines += self._process.communicate(timeout=seconds)[0].splitlines()
        return self._process.wait(seconds)

    def stop_reading(self) -> None:
        """Close the reader's end of its standard output."""
        assert self._process.stdout
        self._process.stdout.close()

    def stderr(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def orphans(self) -> set[int]:
        """Processes that it started and that still run. Those that have ended are waited for."""
        found = own_children() - self._children_before
        return {pid for pid in found if os.waitpid(pid, os.WNOHANG) == (0, 0)}

    def assert_nothing_is_left(self) -> None:
        """No process, no program, map or link in the kernel, and no file."""
        wait_until(lambda: not self.orphans(), f"its processes are gone: {sorted(self.orphans())}")
        wait_until(lambda: not any(held.exists() for held in self.bpf), "its eBPF objects are gone")
        assert list(self.folder.iterdir()) == []
