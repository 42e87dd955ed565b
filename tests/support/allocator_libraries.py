"""The allocators that a distribution packages, to be preloaded or looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Preloaded:
    """An allocator that takes the C library's place, and the package that has it."""

    library: str
    package: str

    def path(self) -> Path:
        """Where it is; without it the test is skipped."""
        found = [*Path("/usr/lib").glob(f"*/{self.library}"), *Path("/usr/lib64").glob(self.library)]
        if not found:
            pytest.skip(f"{self.library} is not installed: apt-get install {self.package}")
        return found[0]

    def __str__(self) -> str:
        return self.package


JEMALLOC = Preloaded("libjemalloc.so.2", "libjemalloc2")
TCMALLOC = Preloaded("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4")
MIMALLOC = Preloaded("libmimalloc.so.2", "libmimalloc2.0")
PRELOADED = (JEMALLOC, TCMALLOC, MIMALLOC)


def archive(name: str, package: str) -> Path:
    """A static library of this machine's distribution."""
    return Preloaded(name, package).path()
