"""Files that others may have written: read whole, within a limit, and without memory for more than they hold."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from diagnosis.base.files import read_regular
from diagnosis.base.units import MIB


def test_a_small_file_takes_little_memory_whatever_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "small"
    file.write_bytes(b"x" * 10_000)
    tracemalloc.start()
    try:
        assert len(read_regular(file, 256 * MIB)) == 10_000
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_a_file_of_unknown_size_is_read_to_its_end_or_its_limit() -> None:
    status = Path("/proc/self/status")  # its size is 0
    assert read_regular(status, MIB).startswith(b"Name:")
    with pytest.raises(ValueError, match=r"larger than 100 B"):
        read_regular(status, 100)


@pytest.mark.parametrize("size", [0, 1, 9, 10])
def test_a_file_of_at_most_the_limit_is_read(tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * size)
    assert read_regular(file, 10) == b"x" * size


def test_a_larger_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 11)
    with pytest.raises(ValueError, match="larger than 10 B"):
        read_regular(file, 10)
