"""How many connections are held at once, and for how long."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Final, Self

__all__ = ["KEEP_ALIVE_SECONDS", "REQUEST_SECONDS", "Limits", "raise_file_limit"]

# From the first byte we could have had of a request to its last: no client here sends more than a few hundred bytes.
# As long may a response wait for its client to read.
REQUEST_SECONDS = 10.0
# Between requests. Longer than Prometheus waits from scrape to scrape, so that its connection lives.
KEEP_ALIVE_SECONDS = 20
# Descriptors that are no client's: the interpreter's, the event loop's, the front's, the listeners, and some to spare.
RESERVED_FILES: Final = 48
FEWEST_CONNECTIONS: Final = 24
UNLIMITED_FILES: Final = 1 << 20
# A connection that has sent nothing costs a record. One that has sent a request costs an HTTP parser: about 25 KiB.
MOST_SILENT: Final = 16_384
MOST_OPEN: Final = 2048
MOST_QUEUED: Final = 256


@dataclass(frozen=True)
class Limits:
    """How many connections are held at once: silent ones, open ones, and those queued between the two per listener."""

    silent: int
    open: int
    queued: int

    @classmethod
    def of_files(cls, files: int, listeners: int) -> Self:
        """The limits of a process that may have ``files`` descriptors.

        Below `RESERVED_FILES` and `FEWEST_CONNECTIONS` together connections may fail for want of a descriptor.
        """
        usable = max(files - RESERVED_FILES, FEWEST_CONNECTIONS)
        queued = max(1, min(MOST_QUEUED, usable // (4 * listeners)))
        opened = min(MOST_OPEN, usable // 3)
        return cls(min(MOST_SILENT, usable - opened - queued * listeners), opened, queued)

    @staticmethod
    def of_one_peer(most: int) -> int:
        """How many of ``most`` connections one address may hold: the others always have a quarter."""
        return max(1, most * 3 // 4)


def raise_file_limit() -> int:
    """Allow as many descriptors as the system lets us, and say how many: the soft limit is often far below."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else UNLIMITED_FILES
