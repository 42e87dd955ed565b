"""Which eBPF programs the kernel holds, whoever loaded them: asked through libbpf."""

from __future__ import annotations

import ctypes
import errno
import os

from diagnosis.base.errors import LabError

# The kernel knows a program by this many bytes of its function's name, the last of them 0.
NAME_BYTES = 16


class _ProgramInfo(ctypes.Structure):
    """The beginning of the kernel's struct bpf_prog_info, as far as the name. The kernel fills what fits."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("lengths", ctypes.c_uint32 * 2),
        ("instructions", ctypes.c_uint64 * 2),
        ("load_time", ctypes.c_uint64),
        ("created_by_uid", ctypes.c_uint32),
        ("nr_map_ids", ctypes.c_uint32),
        ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * NAME_BYTES),
    )


def loaded_programs() -> dict[int, str]:
    """The names of all eBPF programs that the kernel holds, by id.

    Raises:
        LabError: there is no libbpf here, or this user may not ask.
    """
    libbpf = _libbpf()
    found: dict[int, str] = {}
    number = ctypes.c_uint32(0)
    while not libbpf.bpf_prog_get_next_id(number, ctypes.byref(number)):
        fd = libbpf.bpf_prog_get_fd_by_id(number)
        if fd < 0:
            continue  # it was unloaded just now
        try:
            info = _ProgramInfo()
            if not libbpf.bpf_obj_get_info_by_fd(
                fd, ctypes.byref(info), ctypes.byref(ctypes.c_uint32(ctypes.sizeof(info)))
            ):
                found[info.id] = info.name.decode()
        finally:
            os.close(fd)
    # The end of the list is ENOENT.
    if (code := ctypes.get_errno()) in (errno.EPERM, errno.EACCES):
        raise LabError(f"the kernel does not list its eBPF programs: {os.strerror(code)}", "run it as root: sudo ...")
    return found


def open_program(number: int) -> int:
    """A file descriptor of a program, by its id.

    Raises:
        LabError: there is no libbpf here.
        OSError: the kernel refuses, or the program was unloaded.
    """
    descriptor = int(_libbpf().bpf_prog_get_fd_by_id(number))
    if descriptor < 0:
        raise OSError(-descriptor, os.strerror(-descriptor))
    return descriptor


def _libbpf() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise LabError(str(error)) from error
