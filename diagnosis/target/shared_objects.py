"""Shared memory by its objects: what a process sees of one, and what the object holds, whoever put it there."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from diagnosis.target.smaps import Area

__all__ = ["BLOCK_BYTES", "SHARED_ANONYMOUS", "SharedObject", "is_shared_memory", "mapped_in", "read_objects"]

# A mapping that is shared with children has a file that no folder has.
SHARED_ANONYMOUS = "/dev/zero (deleted)"

# As the kernel names mappings of memory that it counts as shared: also System V's, memfds and POSIX's.
_NAMES = (SHARED_ANONYMOUS, "/SYSV", "/memfd:", "/dev/shm/")  # noqa: S108 - a name to compare with

# Of st_blocks: see stat(2).
BLOCK_BYTES = 512


@dataclass(frozen=True)
class SharedObject:
    """What of an object is resident in the process, and what the object holds at all, in bytes."""

    resident: int
    held: int


def is_shared_memory(area: Area) -> bool:
    """True for a mapping of memory that the kernel counts as shared."""
    return area.shared and area.path.startswith(_NAMES)


def read_objects(folder: Path, areas: Iterable[Area], resident: str = "Rss") -> dict[tuple[str, int], SharedObject]:
    """The objects behind a process's shared mappings, by device and inode.

    One whose size the kernel does not tell is left out: that needs root in the machine's own user namespace.

    Args:
        folder: the process's, in /proc.
        areas: its mappings.
        resident: what of a mapping counts, by the kernel's name: "Pss" for its share of what several processes map.
    """
    found: dict[tuple[str, int], SharedObject] = {}
    for area in areas:
        if not is_shared_memory(area):
            continue
        if known := found.get(area.file):
            found[area.file] = replace(known, resident=known.resident + area[resident])
            continue
        with contextlib.suppress(OSError):  # unmapped meanwhile, or not allowed
            status = (folder / "map_files" / f"{area.start:x}-{area.end:x}").stat()
            found[area.file] = SharedObject(area[resident], status.st_blocks * BLOCK_BYTES)
    return found


def mapped_in(start: Mapping[tuple[str, int], SharedObject], end: Mapping[tuple[str, int], SharedObject]) -> int:
    """Bytes that a process touched for the first time between two moments, and that its objects held before.

    An object that was not mapped at the first moment may have been made since: all of it counts as new.
    """
    return sum(
        max(0, now.resident - before.resident - max(0, now.held - before.held))
        for file, now in end.items()
        if (before := start.get(file))
    )
