"""Starts a program, and holds it before its first allocation until the trace is ready.

The program is stopped by ptrace where the dynamic linker tells debuggers that everything is mapped (`_dl_debug_state`):
the C library and what is preloaded are there to be probed, and no constructor has run. A breakpoint at the program's
entry would come after the libraries' constructors, which allocate. One that is statically linked is complete when it
is executed. From there on nothing of this is left in it: the breakpoint is gone before the probes come, and ptrace
lets go of it when it may run.

``python -m diagnosis.target.launch UID GID USER -- COMMAND...`` is the other end: it becomes the user, asks to be
traced, and becomes the command. UID -1 stands for the user who runs this.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import pwd
import shutil
import signal
import struct
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from diagnosis.base.errors import LabError
from diagnosis.base.files import give_usual_descriptors
from diagnosis.target.objects import find_symbols
from diagnosis.target.process import Process

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

# linux/ptrace.h, and linux/auxvec.h.
_TRACEME, _CONT, _SINGLESTEP, _GETREGSET, _SETREGSET = 0, 7, 9, 0x4204, 0x4205
_DETACH, _SETOPTIONS, _EXITKILL = 17, 0x4200, 0x100000
_NT_PRSTATUS = 1
_AT_NULL, _AT_BASE = 0, 7

# x86-64's struct user_regs_struct: 27 words, of which the 17th is the instruction pointer.
_REGISTERS = struct.Struct("=27Q")
_RIP = 16
_BREAKPOINT = b"\xcc"

_NOTIFY, _DEBUG = "_dl_debug_state", "_r_debug"

# struct r_debug (link.h): where its state is, and the state in which nothing is being mapped.
_R_STATE, _RT_CONSISTENT = 24, 0

# A program that is to end may take so long for it.
ENDING_SECONDS = 2.0


@dataclass(frozen=True)
class Account:
    """Whom a program runs as."""

    name: str
    uid: int
    gid: int


class Launched:
    """A program of this process's own, stopped before its first allocation. Use it as a context manager.

    Every call has to come from the thread that made it. Leaving the context lets the program run on, and
    leaving it by an exception ends the program. One that was not yet allowed to run ends with this process.

    Args:
        command: the program and its arguments.
        account: whom it runs as; None for the user who runs this, with all that this may do.

    Raises:
        LabError: it cannot be started, or ended before it was ready.
    """

    def __init__(self, command: Sequence[str], account: Account | None = None) -> None:
        if platform.machine() != "x86_64":
            raise LabError(
                f"no program can be started under the trace on {platform.machine()}", "start it, then trace it by --pid"
            )
        if not shutil.which(command[0]):
            raise LabError(f"{command[0]} is no program that can be run", "name a program of the PATH, or its path")
        own = Account(pwd.getpwuid(os.geteuid()).pw_name, -1, -1)
        self.account = account or own
        identity = [str(self.account.uid), str(self.account.gid), self.account.name]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "diagnosis.target.launch", *identity, "--", *command]
        )
        self.name = command[0]
        self._held = True
        try:
            self._await_exec()
            give_usual_descriptors(self._process.pid)
            self.process = Process(self._process.pid)
            self._run_to_start()
        except BaseException:
            self._end()
            raise

    def resume(self) -> None:
        """Let the program run. Has no effect when it runs already."""
        if self._held:
            self._held = False
            _ptrace(_DETACH, self._process.pid)

    def ending(self, seconds: float = 0.0) -> str:
        """How the program ended, in a line; that it runs on, where it does not end within some seconds."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"{self.name} (pid {self._process.pid}) runs on, without probes"
        if status < 0:
            return f"{self.name} was ended by {_signal_name(-status)}"
        return f"{self.name} ended with exit status {status}"

    def _await_exec(self) -> None:
        status = self._wait()
        if os.WSTOPSIG(status) != signal.SIGTRAP:
            raise LabError(
                f"{self.name} did not start: it was stopped by signal {os.WSTOPSIG(status)}", "start it again"
            )
        _ptrace(_SETOPTIONS, self._process.pid, data=_EXITKILL)

    def _run_to_start(self) -> None:
        """Go on to where everything that the program is linked to has been mapped."""
        linker = _Linker.of(self.process)
        if linker is None:
            return  # statically linked: there is nothing to wait for
        pid = self._process.pid
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:  # noqa: PTH123 - unbuffered, at an address
            while True:
                original = os.pread(memory.fileno(), 1, linker.notify)
                os.pwrite(memory.fileno(), _BREAKPOINT, linker.notify)
                self._go(_CONT)
                registers = _registers(pid)
                registers[_RIP] -= 1
                os.pwrite(memory.fileno(), original, linker.notify)
                if registers[_RIP] != linker.notify:
                    raise LabError(f"{self.name} stopped at {registers[_RIP]:#x} before it began", "start it again")
                _set_registers(pid, registers)
                if linker.is_complete(memory.fileno()):
                    return
                self._go(_SINGLESTEP)

    def _go(self, request: int) -> None:
        """Go on to the next trap; signals that come before are the program's."""
        number = 0
        while True:
            _ptrace(request, self._process.pid, data=number)
            number = os.WSTOPSIG(self._wait())
            if number == signal.SIGTRAP:
                return

    def _wait(self) -> int:
        """The status with which it stopped."""
        _, status = os.waitpid(self._process.pid, 0)
        if os.WIFSTOPPED(status):
            return status
        self._process.returncode = os.waitstatus_to_exitcode(status)
        raise LabError(f"{self.name} did not start: {self.ending()}", "run it without memleak-lab, to see why")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.resume()
        else:
            self._end()

    def _end(self) -> None:
        """End the program, whom nobody waits for."""
        if not self._held:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDING_SECONDS)
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class _Linker:
    """The dynamic linker of a process: the function that it calls when what is mapped changes, and its r_debug."""

    notify: int
    debug: int

    @classmethod
    def of(cls, process: Process) -> _Linker | None:
        """None for a program without one."""
        base = process.auxiliary(_AT_BASE)
        mapping = next((each for each in process.maps() if each.start == base), None) if base else None
        if mapping is None:
            return None
        found = find_symbols(process.open_path(mapping), [_NOTIFY], [_DEBUG])
        if _NOTIFY not in found.functions:
            raise LabError(
                f"{mapping.label} does not say when the program is loaded: it has no {_NOTIFY}",
                "start the program, then trace it by --pid",
            )
        debug = found.variables.get(_DEBUG)
        return cls(base + found.functions[_NOTIFY].address, base + debug.address if debug else 0)

    def is_complete(self, memory: int) -> bool:
        """True where everything is mapped. musl, whose r_debug has no name, tells no earlier."""
        return not self.debug or os.pread(memory, 4, self.debug + _R_STATE) == _RT_CONSISTENT.to_bytes(4, "little")


def _signal_name(number: int) -> str:
    """SIGTERM; "signal 40" for a real-time signal, which has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    if libc.ptrace(request, pid, address, data) < 0:
        number = ctypes.get_errno()
        raise LabError(
            f"ptrace of pid {pid} failed: {os.strerror(number)}", "start the program, then trace it by --pid"
        )


def _registers(pid: int) -> list[int]:
    buffer = ctypes.create_string_buffer(_REGISTERS.size)
    vector = _Vector(ctypes.addressof(buffer), _REGISTERS.size)
    _ptrace(_GETREGSET, pid, _NT_PRSTATUS, ctypes.addressof(vector))
    return list(_REGISTERS.unpack(buffer.raw))


def _set_registers(pid: int, registers: Sequence[int]) -> None:
    buffer = ctypes.create_string_buffer(_REGISTERS.pack(*registers), _REGISTERS.size)
    vector = _Vector(ctypes.addressof(buffer), _REGISTERS.size)
    _ptrace(_SETREGSET, pid, _NT_PRSTATUS, ctypes.addressof(vector))


def main(arguments: Sequence[str]) -> None:
    """Become the command, as the user, stopped at its first instruction."""
    uid, gid, name, separator, *command = arguments
    if separator != "--" or not command:
        sys.exit("usage: python -m diagnosis.target.launch UID GID USER -- COMMAND...")
    try:
        if int(uid) >= 0:
            os.initgroups(name, int(gid))
            os.setresgid(int(gid), int(gid), int(gid))
            os.setresuid(int(uid), int(uid), int(uid))
            home = pwd.getpwuid(int(uid)).pw_dir
            os.environ.update(HOME=home, USER=name, LOGNAME=name)  # sudo may have set root's
        # As in a shell: Python ignores these two, and what it executes would as well.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        _ptrace(_TRACEME, 0)
        os.execvp(command[0], command)  # noqa: S606 - the user's own command
    except (OSError, KeyError, LabError) as error:
        sys.exit(f"memleak-lab: {command[0]} cannot be run: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
