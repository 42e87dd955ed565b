"""What can go wrong in the loaders, in the words of the kernel and of libbpf."""

from __future__ import annotations

import errno

from heap_trace._heap_trace import ffi, lib


class TraceError(OSError):
    """The kernel or libbpf refused; the text is theirs."""

    def __init__(self, error: int) -> None:
        # OSError turns some numbers into its subclasses, which would hide this class: the number is kept by hand.
        super().__init__(ffi.string(lib.trace_error()).decode(errors="replace").strip())
        self.errno = -error


def check(error: int) -> None:
    """Raise a TraceError for a negative errno value of a loader."""
    if error:
        raise TraceError(error)


def is_privilege_error(error: OSError) -> bool:
    """True where the kernel refused for want of root or a capability."""
    return error.errno in (errno.EPERM, errno.EACCES)
