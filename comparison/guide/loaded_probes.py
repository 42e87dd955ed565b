"""Attaches the probes of eBPF programs that another process has loaded.

Inspektor Gadget finds the file behind a uprobe with a kprobe. On a kernel without CONFIG_KPROBES it loads its programs
and attaches none of its uprobes. Here they are attached for it, so that the rest of it can be seen at work.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from diagnosis.base.errors import LabError
from diagnosis.target.objects import read_object
from diagnosis.trace.bpf_programs import NAME_BYTES, loaded_programs, open_program

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

UPROBE_SOURCE = Path("/sys/bus/event_source/devices/uprobe")

# By machine: the number of perf_event_open().
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}

# linux/perf_event.h
PERF_ATTR_SIZE_VER1 = 72
PERF_FLAG_FD_CLOEXEC = 8
PERF_EVENT_IOC_SET_BPF = 0x40042408

_libc = ctypes.CDLL(None, use_errno=True)


class LoadedProbes:
    """Probes in one file, for one process, that run programs found by name. Use it as a context manager.

    Args:
        pid: the process.
        path: opens the file, such as the process's libc.
        functions: exported functions; of each, the programs ``enter_FUNCTION`` and ``leave_FUNCTION`` are attached, as
            far as they are loaded.

    Raises:
        LabError: the kernel refuses a probe, or none of the programs is loaded.
    """

    def __init__(self, pid: int, path: Path, functions: Sequence[str]) -> None:
        elf = read_object(path, str(path))
        programs = {name: number for number, name in loaded_programs().items()}
        self._stack = ExitStack()
        self.count = 0
        with ExitStack() as stack:
            # Returns first: an entry is then never counted without its return in place.
            for prefix, at_return in (("leave_", True), ("enter_", False)):
                for function in functions:
                    number = programs.get(f"{prefix}{function}"[: NAME_BYTES - 1])
                    export = elf.exports.get(function)
                    offset = elf.offset_of(export.address) if export else None
                    if number is None or offset is None:
                        continue
                    event = _open_uprobe(pid, path, offset, at_return=at_return)
                    stack.callback(os.close, event)
                    program = open_program(number)
                    stack.callback(os.close, program)
                    fcntl.ioctl(event, PERF_EVENT_IOC_SET_BPF, program)
                    self.count += 1
            if not self.count:
                raise LabError("none of the gadget's programs is loaded", "start it first")
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def is_loaded(program: str) -> bool:
    """Whether somebody has loaded a program of this name."""
    return program[: NAME_BYTES - 1] in loaded_programs().values()


def _open_uprobe(pid: int, path: Path, offset: int, *, at_return: bool) -> int:
    kind = int((UPROBE_SOURCE / "type").read_text())
    return_bit = int((UPROBE_SOURCE / "format/retprobe").read_text().rpartition(":")[2])
    name = ctypes.create_string_buffer(bytes(path))
    attribute = ctypes.create_string_buffer(PERF_ATTR_SIZE_VER1)
    struct.pack_into("<IIQ", attribute, 0, kind, PERF_ATTR_SIZE_VER1, at_return << return_bit)
    struct.pack_into("<QQ", attribute, 56, ctypes.addressof(name), offset)
    machine = platform.machine()
    if machine not in PERF_EVENT_OPEN:
        raise LabError(f"no system call number is known for {machine}", f"use {' or '.join(PERF_EVENT_OPEN)}")
    event = int(_libc.syscall(PERF_EVENT_OPEN[machine], ctypes.byref(attribute), pid, -1, -1, PERF_FLAG_FD_CLOEXEC))
    if event < 0:
        number = ctypes.get_errno()
        if number in (errno.EPERM, errno.EACCES):
            raise LabError(f"the kernel does not let this user trace: {os.strerror(number)}", "run this as root")
        raise OSError(number, os.strerror(number))
    return event
