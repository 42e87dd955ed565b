"""What an object of shared memory holds, and what of it a process sees."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.shared_objects import SHARED_ANONYMOUS, SharedObject, mapped_in, read_objects
from diagnosis.target.smaps import Area

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.mark.parametrize(
    ("before", "now", "touched"),
    [
        (SharedObject(MIB, 64 * MIB), SharedObject(9 * MIB, 64 * MIB), 8 * MIB),
        (SharedObject(MIB, MIB), SharedObject(9 * MIB, 9 * MIB), 0),
        (SharedObject(MIB, 2 * MIB), SharedObject(9 * MIB, 5 * MIB), 5 * MIB),
        (SharedObject(9 * MIB, 64 * MIB), SharedObject(MIB, 64 * MIB), 0),
        (SharedObject(MIB, 64 * MIB), SharedObject(9 * MIB, 32 * MIB), 8 * MIB),
        (None, SharedObject(9 * MIB, 64 * MIB), 0),
    ],
)
def test_only_what_an_object_did_not_gain_was_there_before(
    before: SharedObject | None, now: SharedObject, touched: int
) -> None:
    start = {("00:01", 7): before} if before else {}
    assert mapped_in(start, {("00:01", 7): now}) == touched


def shared_area(start: int, end: int, path: str, inode: int, resident: int) -> Area:
    return Area(start, end, "rw-s", "00:01", inode, path, {"Rss": resident})


def test_an_object_that_is_mapped_twice_is_one(tmp_path: Path) -> None:
    """A file on a disk is none of them, nor one whose size cannot be read."""
    held = tmp_path / "map_files" / "1000-3000"
    held.parent.mkdir()
    held.write_bytes(os.urandom(3 * MIB))
    areas = [
        shared_area(0x1000, 0x3000, SHARED_ANONYMOUS, 7, 4096),
        shared_area(0x5000, 0x6000, SHARED_ANONYMOUS, 7, 8192),
        shared_area(0x7000, 0x8000, "/memfd:gone (deleted)", 8, 4096),
        shared_area(0x9000, 0xA000, "/var/lib/data", 9, 4096),
    ]
    assert read_objects(tmp_path, areas) == {("00:01", 7): SharedObject(12288, held.stat().st_blocks * 512)}
