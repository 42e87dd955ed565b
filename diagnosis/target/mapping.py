"""One mapping of a process: a line of /proc/PID/maps."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import PurePosixPath

from diagnosis.base.text import safe_text

# What the kernel adds to the path of a file that has no name any more.
DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of /proc/PID/maps: addresses and offset in bytes. ``path`` is "" for anonymous memory."""

    start: int
    end: int
    permissions: str
    offset: int
    device: str
    inode: int
    path: str

    @property
    def label(self) -> str:
        """The path, safe to print."""
        return safe_text(self.path.encode(errors="surrogateescape"))

    @property
    def name(self) -> str:
        """The file's own name, safe to print; "" for anonymous memory."""
        return safe_text(PurePosixPath(self.path.removesuffix(DELETED)).name.encode(errors="surrogateescape"))

    @property
    def executable(self) -> bool:
        """True where code can run."""
        return "x" in self.permissions

    @property
    def file(self) -> tuple[str, int]:
        """What identifies the mapped file: device and inode. A path can name another file by now."""
        return self.device, self.inode


def parse_mapping(line: str) -> Mapping:
    """A line of maps, without its end."""
    fields = line.split(maxsplit=5)
    start, _, end = fields[0].partition("-")
    path = fields[5] if len(fields) > 5 else ""
    # Few are different, and a process can have a million mappings.
    permissions, device, path = map(sys.intern, (fields[1], fields[3], path))
    return Mapping(int(start, 16), int(end, 16), permissions, int(fields[2], 16), device, int(fields[4]), path)
