from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.report.account import Traced, account
from diagnosis.target.memory import Memory, Range, TooManyMappingsError, Use, read_memory, read_process
from tests.diagnosis.recorded import PID, end, record

if TYPE_CHECKING:
    from pathlib import Path

    from diagnosis.report.account import Account

KIB, MIB = 1024, 1 << 20

STATUS = "Name:\tp\nVmRSS:\t 4000 kB\nRssAnon:\t 1132 kB\nRssFile:\t 400 kB\nRssShmem:\t 64 kB\nVmSwap:\t 8 kB\n"


def entry(addresses: str, permissions: str, path: str, **sizes: int) -> str:
    """One mapping of smaps, with sizes in KiB."""
    lines = [f"{addresses} {permissions} 00000000 00:01 17{' ' * 10}{path}".rstrip(), "Size:                  4 kB"]
    lines += [f"{name}:{size:>16} kB" for name, size in sizes.items()]
    return "\n".join([*lines, "VmFlags: rd mr mw me\n"])


SMAPS = "".join(
    (
        entry("00400000-00500000", "r-xp", "/usr/bin/p", Rss=400, Anonymous=0),
        entry("00500000-00510000", "rw-p", "/usr/bin/p", Rss=12, Anonymous=12),
        entry("01000000-02000000", "rw-p", "[heap]", Rss=600, Anonymous=600, Swap=8),
        # glibc's second arena: 64 MiB aligned, with the part that is not used yet behind it
        entry("7f0004000000-7f0004100000", "rw-p", "", Rss=200, Anonymous=200, AnonHugePages=0),
        entry("7f0004100000-7f0008000000", "---p", "", Rss=0, Anonymous=0),
        # a thread's stack on its guard page
        entry("7f0010000000-7f0010001000", "---p", "", Rss=0, Anonymous=0),
        entry("7f0010001000-7f0010801000", "rw-p", "", Rss=100, Anonymous=100),
        entry("7f0020000000-7f0020400000", "rw-p", "", Rss=200, Anonymous=200, AnonHugePages=100),
        entry("7f0030000000-7f0030010000", "rw-s", "/dev/zero (deleted)", Rss=64, Anonymous=0),
        entry("7ffc00000000-7ffc00021000", "rw-p", "[stack]", Rss=20, Anonymous=20),
    )
)


def recorded(proc: Path, smaps: str = SMAPS, status: str = STATUS) -> Memory:
    record(proc, status=status)
    (proc / str(PID) / "smaps").write_text(smaps)
    return read_memory(PID, proc)


def test_every_kind_of_memory_is_read(tmp_path: Path) -> None:
    memory = recorded(tmp_path)
    assert memory.anonymous == 1132 * KIB
    assert (memory.file, memory.shared, memory.swapped, memory.huge) == (400 * KIB, 64 * KIB, 8 * KIB, 100 * KIB)
    assert memory.held == (1132 + 8 + 64) * KIB
    assert memory.error == 0
    assert memory.shared_within([(0x7F0030000000, 0x7F0030008000)]) == 32 * KIB


def test_anonymous_memory_is_told_by_its_use(tmp_path: Path) -> None:
    uses = recorded(tmp_path).uses
    assert {use: size // KIB for use, size in uses.items()} == {
        Use.HEAP: 608 + 200,
        Use.STACKS: 100 + 20,
        Use.DATA: 12,
        Use.OTHER: 200,
    }


@pytest.mark.parametrize(
    ("line", "use"),
    [
        (("7f0040000000-7f0040100000", "rw-p", "/usr/bin/p"), Use.DATA),
        (("7f0040000000-7f0040100000", "rw-p", "/srv/image"), Use.FILES),
        (("7f0040000000-7f0040100000", "rw-p", "/dev/zero"), Use.OTHER),
        (("7f0030010000-7f0030020000", "rw-p", ""), Use.OTHER),  # behind a mapping that is no program's
    ],
)
def test_written_pages_are_data_of_files_that_hold_code_only(
    tmp_path: Path, line: tuple[str, str, str], use: Use
) -> None:
    stack = SMAPS.index("7ffc00000000")
    before = recorded(tmp_path / "before").uses[use]
    after = recorded(tmp_path / "after", SMAPS[:stack] + entry(*line, Rss=300, Anonymous=300) + SMAPS[stack:])
    assert after.uses[use] == before + 300 * KIB


def test_two_readings_that_differ_are_the_error(tmp_path: Path) -> None:
    moved = STATUS.replace("1132 kB", "1140 kB")
    assert recorded(tmp_path, status=moved).error == 8 * KIB


def test_what_is_resident_of_a_range_is_read_off_its_mapping(tmp_path: Path) -> None:
    memory = recorded(tmp_path)
    assert memory.within([(0x7F0020000000, 0x7F0020400000)]) == 200 * KIB
    assert memory.within([(0x7F0020000000, 0x7F0020200000)]) == 100 * KIB, "half of it"
    assert memory.within([(0x7F0020000000, 0x7F0020400000)], [Use.STACKS]) == 0
    assert memory.within([(0x1000, 0x2000)]) == 0


def test_open_memfds_that_are_mapped_nowhere_are_counted(tmp_path: Path) -> None:
    record(tmp_path, status=STATUS)
    (tmp_path / str(PID) / "smaps").write_text(SMAPS)
    held = os.memfd_create("held")
    os.write(held, bytes(3 * 4096))
    try:
        folder = tmp_path / str(PID) / "fd"
        folder.mkdir()
        # /proc's own link both reads as the file's name and opens it; a recorded one can do one of the two.
        (folder / "5").symlink_to(f"/proc/self/fd/{held}")
        assert read_memory(PID, tmp_path).unmapped_memfd == 0
        mine = read_memory(os.getpid())
        assert mine.unmapped_memfd >= 3 * 4096
    finally:
        os.close(held)
    assert read_memory(os.getpid()).unmapped_memfd <= mine.unmapped_memfd - 3 * 4096


def test_a_process_that_ended_is_an_error(tmp_path: Path) -> None:
    recorded(tmp_path)
    end(tmp_path)
    with pytest.raises(LabError, match="pid 4711 has ended"):
        read_memory(PID, tmp_path)


def test_a_zombie_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="has ended"):
        recorded(tmp_path, smaps="", status="Name:\tp\nState:\tZ (zombie)\n")


# --- the account ---

HEAP = Range(0x1000, 0x100000000, 0, Use.HEAP)


def memory(heap: int = 0, other: int = 0, stacks: int = 0, **changes: int) -> Memory:
    """Memory in MiB."""
    ranges = (
        replace(HEAP, bytes=heap * MIB),
        Range(0x200000000, 0x300000000, other * MIB, Use.OTHER),
        Range(0x400000000, 0x500000000, stacks * MIB, Use.STACKS),
    )
    uses = Counter({part.use: part.bytes for part in ranges})
    found = Memory(anonymous=(heap + other + stacks) * MIB, ranges=ranges, uses=uses)
    return replace(found, **{name: size * MIB for name, size in changes.items()})  # type: ignore[arg-type] # sizes all


START = memory(heap=100, other=10, stacks=1)


def parts(result: Account) -> dict[str, int]:
    return {part.name: part.bytes // MIB for part in (*result.anonymous, *result.kinds) if part.bytes}


def check(result: Account, growth: int) -> None:
    """The parts add up, whatever they are."""
    assert result.growth == growth * MIB
    of_anonymous = {part.name: part.bytes for part in result.kinds}
    assert sum(part.bytes for part in result.anonymous) == of_anonymous["anonymous"] + of_anonymous["swapped"]


def test_a_leak_is_blocks_taken_and_kept() -> None:
    result = account(START, memory(heap=120, other=10, stacks=1), Traced(20 * MIB, 3 * MIB))
    check(result, 20)
    assert parts(result) == {"anonymous": 20, "live": 20}
    assert result.unseen == ()


def test_freed_memory_that_the_allocator_holds_is_told_from_memory_that_nobody_explains() -> None:
    result = account(START, memory(heap=150, other=30, stacks=1), Traced(1 * MIB, freed=500 * MIB))
    check(result, 70)
    assert parts(result) == {"anonymous": 70, "live": 1, "retained": 50, "unseen": 19}


def test_no_more_is_held_than_was_freed() -> None:
    """Code that calls sbrk grows the same range as the allocator: what was not freed, the allocator does not hold."""
    result = account(START, memory(heap=150, other=10, stacks=1), Traced(0, freed=5 * MIB))
    check(result, 50)
    assert parts(result) == {"anonymous": 50, "retained": 5, "unseen": 45}


def test_older_blocks_that_were_freed_in_a_heap_that_did_not_shrink_are_held() -> None:
    result = account(START, memory(heap=100, other=25, stacks=1), Traced(-20 * MIB, freed=30 * MIB))
    assert parts(result) == {"anonymous": 15, "live": -20, "retained": 20, "unseen": 15}


def test_a_heap_that_shrank_with_its_blocks_holds_the_difference_only() -> None:
    result = account(START, memory(heap=85, other=25, stacks=1), Traced(-20 * MIB, freed=30 * MIB))
    assert parts(result) == {"live": -20, "retained": 5, "unseen": 15}


def test_what_the_allocator_takes_beside_its_blocks_explains_what_is_there_and_no_more() -> None:
    for heap, beside in ((130, {"overhead": 6, "unseen": 4}), (123, {"overhead": 3}), (115, {"untouched": -5})):
        result = account(START, memory(heap=heap, other=10, stacks=1), Traced(20 * MIB, 0, overhead=6 * MIB))
        check(result, heap - 100)
        assert parts(result) == {"anonymous": heap - 100, "live": 20, **beside}


def test_blocks_that_are_not_touched_yet_are_said() -> None:
    result = account(START, memory(heap=105, other=10, stacks=1), Traced(20 * MIB, 0))
    check(result, 5)
    assert parts(result) == {"anonymous": 5, "live": 20, "untouched": -15}
    assert result.unseen == ()


def test_mappings_of_the_program_are_what_is_resident_of_them() -> None:
    traced = Traced(0, 0, mapped=((0x200000000, 0x300000000),))
    result = account(memory(heap=100), memory(heap=100, other=40), traced)
    check(result, 40)
    assert parts(result) == {"anonymous": 40, "mapped": 40}


def test_stacks_that_the_program_maps_itself_are_its_mappings() -> None:
    traced = Traced(0, 0, mapped=((0x400000000, 0x500000000),))
    result = account(memory(heap=100), memory(heap=100, stacks=20), traced)
    check(result, 20)
    assert parts(result) == {"anonymous": 20, "mapped": 20}
    assert result.unseen == ()


def test_shared_mappings_of_the_program_are_no_shared_memory_that_nobody_explains() -> None:
    shared = (Range(0x600000000, 0x700000000, 34 * MIB, Use.OTHER),)
    end = replace(memory(heap=100, shared=40), shared_ranges=shared)
    result = account(memory(heap=100), end, Traced(0, 0, shared=((0x600000000, 0x700000000),)))
    check(result, 40)
    assert parts(result) == {"shared": 6, "shared_mapped": 34}
    assert [(part.name, part.bytes) for part in result.unseen] == [("shared", 6 * MIB)]


def test_what_no_allocator_explains_is_named_by_its_kind() -> None:
    result = account(START, memory(heap=100, other=10, stacks=21, shared=7, unmapped_memfd=9, file=5), Traced(0, 0))
    check(result, 20 + 7 + 9 + 5)
    assert parts(result) == {"anonymous": 20, "stacks": 20, "shared": 7, "memfd": 9, "file": 5}
    assert {part.name for part in result.unseen} == {"stacks", "shared", "memfd"}
    assert all(part.remedy for part in result.unseen)


def test_swap_is_the_process_s_all_the_same() -> None:
    start, later = memory(heap=100), memory(heap=60, swapped=50)
    later.uses[Use.HEAP] += 50 * MIB
    result = account(start, later, Traced(10 * MIB, 0))
    check(result, 10)
    assert parts(result) == {"anonymous": -40, "swapped": 50, "live": 10}


@pytest.mark.parametrize("name", ["x kB", "\rRssAnon: 1 kB", "\rRssAnon:x kB", "\x1cRssAnon: 1 kB", "Rss:\r kB"])
def test_a_process_s_name_is_no_size(tmp_path: Path, name: str) -> None:
    """It chooses its name, and the kernel escapes no more of it than a line feed."""
    record(tmp_path)
    (tmp_path / str(PID) / "status").write_bytes(STATUS.replace("Name:\tp\n", f"Name:\t{name}\n").encode())
    (tmp_path / str(PID) / "smaps").write_text(SMAPS)
    memory = read_memory(PID, tmp_path)
    assert (memory.anonymous, memory.error) == (1132 * KIB, 0)


def test_no_more_is_read_of_mappings_than_there_is_room_for(tmp_path: Path) -> None:
    recorded(tmp_path)
    assert read_process(PID, tmp_path, len(SMAPS)).areas()
    with pytest.raises(TooManyMappingsError, match="has more mappings than are read"):
        read_process(PID, tmp_path, len(SMAPS) - 1)
