"""Private mappings of files: written, they are the process's memory; read, they are address space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from heap_trace import Lost, MappingKind

from diagnosis.report.account import account
from diagnosis.report.counted import Counted
from diagnosis.report.evidence import gather, traced
from diagnosis.report.history import Takes
from diagnosis.report.site import CallSite
from diagnosis.report.verdict import Answer, find
from diagnosis.report.written_files import with_written_files
from diagnosis.target.memory import Memory, Range, Use
from diagnosis.target.process import Resident
from diagnosis.trace.counts import Counts
from diagnosis.trace.mapped import MappedRange
from diagnosis.trace.snapshot import NANOSECONDS, Snapshot
from diagnosis.trace.window import Sample, Window

if TYPE_CHECKING:
    from diagnosis.report.account import Account

MIB = 1 << 20
READINGS = 25
PATCHER, READER = 1, 2
BASE = {PATCHER: 1 << 40, READER: 1 << 41}


def window(written: int, use: Use = Use.FILES) -> Window:
    """Two stacks map a file of 1 MiB at each reading: one writes so many bytes of each, the other reads."""
    kind = MappingKind.FILE_MAPPED
    samples = tuple(
        Sample(
            Snapshot(each, {}, apart={kind: {stack: Counts(each, each * MIB) for stack in BASE}}),
            Resident(each * written, each * written),
        )
        for each in range(READINGS)
    )
    ranges = tuple(
        MappedRange(base + each * MIB, base + (each + 1) * MIB, stack, kind, each * NANOSECONDS)
        for stack, base in BASE.items()
        for each in range(1, READINGS)
    )
    own = tuple(Range(each.start, each.end, written, use) for each in ranges if each.stack == PATCHER)
    size = sum(each.bytes for each in own)
    end = Memory(anonymous=size, ranges=own)
    end.uses[use] = size
    return Window(samples, {}, dict.fromkeys(Lost, 0), memory_start=Memory(), memory_end=end, ranges=ranges)


def counted(measured: Window) -> Counted:
    first, last = measured.samples[0].snapshot, measured.samples[-1].snapshot
    return Counted(measured, last.since(first), lambda stack: CallSite(("", "patch", "scan")[stack], ""), lost=0)


def growth(found: Counted) -> Account:
    return account(Memory(), found.window.memory_end or Memory(), traced(found))


def parts(found: Counted) -> dict[str, int]:
    return {part.name: part.bytes for part in growth(found).anonymous}


@pytest.mark.parametrize("use", [Use.FILES, Use.OTHER], ids=["a file", "zeroes"])
@pytest.mark.parametrize("written", [MIB, MIB // 16])
def test_what_is_written_of_them_is_memory_that_leaks(written: int, use: Use) -> None:
    found = counted(with_written_files(window(written, use)))
    evidence = gather(found, growth(found), ())
    finding = find(evidence)
    assert finding.answer is Answer.LEAK
    assert [(each.site.site.function, each.site.takes) for each in finding.judged] == [("patch", Takes.MAPPINGS)]
    (site,) = (each.site for each in finding.judged)
    assert site.growth == site.resident_bytes == (READINGS - 1) * written
    assert 0 < site.first_bytes < site.kept_bytes < site.growth
    assert parts(found) == {"mapped": site.growth}
    assert {each.site.function for each in evidence.sites if each.takes is Takes.FILES} == {"scan"}


@pytest.mark.parametrize(("written", "use"), [(0, Use.FILES), (MIB, Use.DATA)], ids=["only read", "a library"])
def test_what_is_only_read_or_is_a_library_s_stays_address_space(written: int, use: Use) -> None:
    measured = window(written, use)
    assert with_written_files(measured) is measured
    assert find(gather(counted(measured), growth(counted(measured)), ())).answer is Answer.NO_LEAK


def test_without_an_account_nothing_is_known_of_them() -> None:
    ended = Window(window(MIB).samples, {}, {}, ranges=window(MIB).ranges)
    assert with_written_files(ended) is ended


def test_what_is_written_of_files_from_before_the_window_is_data() -> None:
    measured = window(MIB)
    measured = Window(measured.samples, {}, {}, memory_start=Memory(), memory_end=measured.memory_end)
    assert parts(counted(measured)) == {"data": (READINGS - 1) * MIB}
