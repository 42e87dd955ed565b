"""Which files are the C library, by their names: glibc's since 2.34 and before, and musl's in its two spellings.

musl's library is its dynamic linker as well. Where Debian and Alpine name the same file differently, both names count.
"""

from __future__ import annotations

_LIBC = ("libc.so", "libc-2.", "ld-musl-", "libc.musl-")
# glibc's threads, a library of their own before 2.34, and its dynamic linker.
_RUNTIME = (*_LIBC, "libpthread", "ld-linux")


def is_libc(path: str) -> bool:
    """True for the path or the name of a C library."""
    return path.rpartition("/")[2].startswith(_LIBC)


def is_c_runtime(path: str) -> bool:
    """True for the path or the name of the C library or of what starts a program and its threads beside it."""
    return path.rpartition("/")[2].startswith(_RUNTIME)
