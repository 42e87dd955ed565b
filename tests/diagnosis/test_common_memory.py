"""Memory of several processes as the machine has it: pages that they share count once."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.target.common_memory import add_up, apart, process_at, read_share
from diagnosis.target.shared_objects import SHARED_ANONYMOUS, SharedObject
from tests.diagnosis.recorded import PID, record
from tests.diagnosis.test_memory import KIB, MIB, entry

if TYPE_CHECKING:
    from pathlib import Path

    from diagnosis.target.common_memory import Share

STATUS = "Name:\tp\nVmRSS:\t 1000 kB\nRssAnon:\t 500 kB\nRssShmem:\t 64 kB\n"
SIZES = {"Anonymous": 500, "Pss_Anon": 300, "Pss_File": 40, "Pss_Shmem": 32, "Swap": 8, "SwapPss": 4}


def share(proc: Path, *entries: str, **sizes: int) -> Share:
    record(proc, status=STATUS)
    folder = proc / str(PID)
    (folder / "smaps").write_text("".join(entries))
    (folder / "smaps_rollup").write_text(entry("1000-2000", "---p", "[rollup]", **{**SIZES, **sizes}))
    return read_share(PID, PID, proc)()


HEAP = entry(
    "1000-400000", "rw-p", "[heap]", Rss=500, Anonymous=500, Pss=300, Private_Dirty=80, Private_Clean=20, Swap=8
)
SHARED = entry("500000-600000", "rw-s", SHARED_ANONYMOUS, Rss=64, Pss=32)


def test_what_a_process_shares_counts_by_its_share(tmp_path: Path) -> None:
    found = share(tmp_path, HEAP, SHARED)
    assert (found.memory.anonymous, found.memory.swapped) == (500 * KIB, 8 * KIB)
    assert (found.anonymous, found.swapped, found.file, found.shared) == (300 * KIB, 4 * KIB, 40 * KIB, 32 * KIB)
    assert found.own == 104 * KIB
    assert found.memory.error == 0


def test_what_was_taken_between_two_readings_is_no_part_of_what_is_shared(tmp_path: Path) -> None:
    found = share(tmp_path, HEAP, SHARED, Anonymous=512, Pss_Anon=312)
    assert found.anonymous == 300 * KIB
    assert found.memory.error == 12 * KIB


def test_of_a_file_that_was_read_nothing_is_its_own(tmp_path: Path) -> None:
    sizes = {"Rss": 300, "Anonymous": 100, "Private_Clean": 200, "Private_Dirty": 60}
    assert share(tmp_path, entry("1000-90000", "rw-p", "/srv/image", **sizes), SwapPss=0).own == 60 * KIB


def test_addresses_of_two_processes_do_not_meet(tmp_path: Path) -> None:
    (part,) = share(tmp_path, HEAP).memory.ranges
    assert part.start == apart(0x1000, PID)
    assert process_at(part.end - 1) == PID
    assert add_up([share(tmp_path / "again", HEAP)]).within([(apart(0x1000, PID + 1), apart(0x400000, PID + 1))]) == 0


def test_two_that_share_are_what_the_machine_has_of_them(tmp_path: Path) -> None:
    both = add_up([share(tmp_path / str(each), HEAP, SHARED) for each in range(2)])
    assert (both.anonymous, both.swapped, both.shared, both.file) == (600 * KIB, 8 * KIB, 64 * KIB, 80 * KIB)


def test_a_shared_mapping_is_all_that_the_processes_have_of_it_for_whoever_mapped_it(tmp_path: Path) -> None:
    untouched = entry("500000-600000", "rw-s", SHARED_ANONYMOUS, Rss=0, Pss=0)
    both = add_up([share(tmp_path / "a", untouched), share(tmp_path / "b", SHARED)])
    assert [each.bytes for each in both.shared_ranges] == [32 * KIB, 32 * KIB]


def test_huge_pages_that_two_map_count_once(tmp_path: Path) -> None:
    huge = entry("500000-900000", "rw-s", "/anon_hugepage (deleted)", Shared_Hugetlb=2048, Private_Hugetlb=1024)
    both = add_up([share(tmp_path / str(each), huge) for each in range(2)])
    assert both.hugetlb == 4 * MIB


def test_a_process_that_ended_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="has ended"):
        read_share(PID, PID, tmp_path)


def test_this_process_and_its_child_share_what_was_there_at_the_fork() -> None:
    """Read for real: what the child wrote to since is a copy, and what it took of shared memory counts once."""
    size = 64 * MIB
    the_interpreter_s = 14 * MIB  # what it writes to of its own
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as private, mmap.mmap(-1, size) as shared:
        shared.write(bytes([1]) * size)
        private.write(bytes([1]) * size)
        before = add_up([read_share(os.getpid(), os.getpid())()])
        ready, child_says = os.pipe()
        if not (child := os.fork()):
            private[: size // 2] = bytes([2]) * (size // 2)
            assert shared[:: mmap.PAGESIZE].count(1) == size // mmap.PAGESIZE
            os.write(child_says, b"r")
            os.read(os.pipe()[0], 1)
        try:
            os.read(ready, 1)
            shares = [read_share(pid, pid)() for pid in (os.getpid(), child)]
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)
            os.close(ready)
            os.close(child_says)
        after = add_up(shares)
    assert after.anonymous - before.anonymous == pytest.approx(size // 2, abs=the_interpreter_s)
    assert after.shared - before.shared == pytest.approx(0, abs=MIB / 4)
    assert shares[1].own == pytest.approx(size // 2, abs=the_interpreter_s)
    assert sum(each.memory.anonymous for each in shares) - after.anonymous > size // 2 - the_interpreter_s
    assert SharedObject(0, 0) not in after.shared_objects.values()
