"""Which system calls the parser may make, by libseccomp where the machine has it.

systemd, Docker and apt use the same library, so that nearly every machine has it. It is loaded as it is: its own Python
binding is packaged with distributions for their own Python only, and what PyPI has beside it has not been released
since 2021. Where it is missing the parser still has a user of its own, no capability, an empty root directory and its
limits.
"""

from __future__ import annotations

import ctypes
import errno
import mmap

LIBRARY = "libseccomp.so.2"

_ACT_ALLOW = 0x7FFF0000
_ACT_ERRNO = 0x00050000
_CMP_MASKED_EQ = 7

# Memory, the socket, the files that come over it, the clock, and a way to end. No open, no exec, no clone, no kill.
_CALLS = (
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "preadv",
    "preadv2",
    "recvmsg",
    "recvfrom",
    "sendmsg",
    "sendto",
    "poll",
    "ppoll",
    "close",
    "fstat",
    "newfstatat",
    "lseek",
    "munmap",
    "madvise",
    "brk",
    "futex",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "getpid",
    "gettid",
    "tgkill",
    "getrandom",
    "clock_gettime",
    "sched_yield",
    "restart_syscall",
    "exit",
    "exit_group",
)
# Memory that can be executed is not to be had. The protection is the third argument of each.
_MAPPING_CALLS = ("mmap", "mprotect")


class _Comparison(ctypes.Structure):
    """libseccomp's struct scmp_arg_cmp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def find_library() -> ctypes.CDLL | None:
    """libseccomp, or None where the machine has none."""
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        return None


def load_filter(library: ctypes.CDLL) -> None:
    """Allow the parser's system calls and no other, from now on: any other fails with EPERM.

    Raises:
        OSError: the kernel or the library refuses the filter.
    """
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    add = library.seccomp_rule_add_array
    add.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Comparison),
    )
    library.seccomp_load.argtypes = library.seccomp_release.argtypes = (ctypes.c_void_p,)
    context = library.seccomp_init(_ACT_ERRNO | errno.EPERM)
    if not context:
        raise OSError(errno.ENOMEM, "seccomp_init")
    no_code = _Comparison(2, _CMP_MASKED_EQ, mmap.PROT_EXEC, 0)
    rules = [*((name, None) for name in _CALLS), *((name, no_code) for name in _MAPPING_CALLS)]
    # mremap cannot change what may be done with memory.
    for name, condition in (*rules, ("mremap", None)):
        number = library.seccomp_syscall_resolve_name(name.encode())
        conditions = (_Comparison * 1)(condition) if condition else None
        _check(name, add(context, _ACT_ALLOW, number, int(bool(condition)), conditions))
    _check("seccomp_load", library.seccomp_load(context))
    library.seccomp_release(context)


def _check(what: str, result: int) -> None:
    if result < 0:
        raise OSError(-result, what)
