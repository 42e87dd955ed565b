"""Which processes have one memory: children of clone(CLONE_VM) that are no threads, and of vfork until they exec."""

from __future__ import annotations

import ctypes
import platform

# kcmp(2): its number, and the comparison of memory.
_SYS_KCMP = {"x86_64": 312, "aarch64": 272}
_KCMP_VM = 1

_libc = ctypes.CDLL(None, use_errno=True)


def share_memory(one: int, other: int) -> bool:
    """True where both processes run in the same memory. False also where the kernel does not say."""
    number = _SYS_KCMP.get(platform.machine())
    return number is not None and _libc.syscall(number, one, other, _KCMP_VM, 0, 0) == 0
