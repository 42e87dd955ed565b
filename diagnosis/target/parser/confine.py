"""What a process gives up before it reads a byte that somebody else chose."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

from diagnosis.target.parser.seccomp import find_library, load_filter

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38

# One for each tracer, in a range that no system and no container runtime gives away (systemd's "Users, Groups, UIDs and
# GIDs"): two parsers cannot reach each other, and no other process has this user.
FIRST_UID = 1_900_000_000
# Where this runs in a user namespace that does not map such a number.
OVERFLOW_UID = 65_534

_CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True)
class Limits:
    """What a parser may take.

    Attributes:
        address_space: bytes of it.
        data: bytes of memory that can be written, the copies of files apart.
        cpu_seconds: of processor time for one request.
        seconds: for one request, as a clock on the wall counts them.
        life_seconds: of processor time for all its requests; then another takes its place.
    """

    address_space: int = 1536 << 20
    data: int = 256 << 20
    cpu_seconds: float = 5.0
    seconds: float = 15.0
    life_seconds: int = 600


def confine(parent: int, limits: Limits) -> frozenset[str]:
    """Give up the user, its capabilities, the file system, new files and everything but memory and the socket.

    In a container that may not change users or roots, the filter of system calls has to stand alone.

    Returns:
        What holds: ``user``, ``root`` (an empty root directory) and ``seccomp``, as far as they could be had.

    Raises:
        OSError: neither the user nor the system calls could be given up, or a limit could not be set.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp = find_library()  # while there are files
    holds = set()
    if os.geteuid() == 0:
        for name, step in (("root", _leave_files), ("user", lambda: _leave_user(parent))):
            with contextlib.suppress(PermissionError):
                step()
                holds.add(name)
    else:
        holds.add("user")
    _drop_capabilities(libc)
    _call("no_new_privs", libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _call("dumpable", libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
    # After the change of user, which clears it.
    _call("parent death signal", libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:  # it ended before the line above: nobody would send the signal
        raise OSError(errno.ESRCH, "the tracer has ended")
    for kind, limit in (
        (resource.RLIMIT_AS, limits.address_space),
        (resource.RLIMIT_DATA, limits.data),
        (resource.RLIMIT_CPU, 2 * limits.life_seconds),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    if seccomp:
        load_filter(seccomp)
        holds.add("seccomp")
    if not holds & {"user", "seccomp"}:
        raise OSError(errno.EPERM, "neither another user nor a filter of system calls can be had")
    return frozenset(holds)


def _leave_files() -> None:
    """The root directory becomes one that is empty and has no name any more."""
    folder = tempfile.mkdtemp(prefix="memleak-lab-parser-")
    os.chdir(folder)
    Path(folder).rmdir()
    os.chroot(".")


def _leave_user(parent: int) -> None:
    os.setgroups([])
    try:
        _become(FIRST_UID + parent)
    except OSError:
        _become(OVERFLOW_UID)


def _become(uid: int) -> None:
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Also those that a service manager gave to a user who is not root."""
    head = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _call("capset", libc.capset(head, (ctypes.c_uint32 * 6)()))


def _call(what: str, result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
