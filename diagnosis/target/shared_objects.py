"""Shared memory by its objects: what a process sees of one, and what the object holds, whoever put it there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["SHARED_ANONYMOUS", "SharedArea", "SharedObject", "mapped_in", "read_objects"]

# A mapping that is shared with children has a file that no folder has.
SHARED_ANONYMOUS = "/dev/zero (deleted)"

# As the kernel names mappings of memory that it counts as shared: also System V's, memfds and POSIX's.
_NAMES = (SHARED_ANONYMOUS, "/SYSV", "/memfd:", "/dev/shm/")  # noqa: S108 - a name to compare with

_BLOCK_BYTES = 512


@dataclass(frozen=True)
class SharedArea:
    """A mapping: its addresses, what is behind it, the device and the inode of that, and the resident bytes."""

    start: int
    end: int
    path: str
    file: str
    resident: int


@dataclass(frozen=True)
class SharedObject:
    """What of an object is resident in the process, and what the object holds at all, in bytes."""

    resident: int
    held: int


def read_objects(folder: Path, areas: Iterable[SharedArea]) -> dict[str, SharedObject]:
    """The objects behind a process's shared mappings, by device and inode.

    One whose size the kernel does not tell is left out: that needs root in the machine's own user namespace.

    Args:
        folder: the process's, in /proc.
        areas: its mappings.
    """
    found: dict[str, SharedObject] = {}
    for area in areas:
        if not area.path.startswith(_NAMES):
            continue
        before = found.get(area.file)
        try:
            held = (
                before.held
                if before
                else (folder / "map_files" / f"{area.start:x}-{area.end:x}").stat().st_blocks * _BLOCK_BYTES
            )
        except OSError:  # unmapped meanwhile, or not allowed
            continue
        found[area.file] = SharedObject(area.resident + (before.resident if before else 0), held)
    return found


def mapped_in(start: Mapping[str, SharedObject], end: Mapping[str, SharedObject]) -> int:
    """Bytes that a process touched for the first time between two moments, and that its objects held before.

    An object that was not mapped at the first moment may have been made since: all of it counts as new.
    """
    return sum(
        max(0, now.resident - before.resident - max(0, now.held - before.held))
        for file, now in end.items()
        if (before := start.get(file))
    )
