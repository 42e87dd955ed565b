from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from heap_trace.unwind import Capacity, UnwindTables

from diagnosis.base.errors import LabError
from diagnosis.target import unwinding
from diagnosis.target.mapping import Mapping
from diagnosis.target.parser.facts import Segment
from diagnosis.target.unwinding import Layout, ProcessTables, read_table
from tests.support.programs import compile_c

if TYPE_CHECKING:
    from pathlib import Path

# As lld lays a program out: no gap in the file, and each segment a page further on in memory.
LLD = Layout(
    (
        Segment(0, 0, 0x1294C, executable=False),
        Segment(0x12950, 0x13950, 0x3CAD0, executable=True),
        Segment(0x4F420, 0x51420, 0x2650, executable=False),
    )
)
# The same of a small one: all of it is in one page of the file.
ONE_PAGE = Layout(
    (
        Segment(0, 0x200000, 0x500, executable=False),
        Segment(0x500, 0x201500, 0x200, executable=True),
        Segment(0x700, 0x202700, 0x100, executable=False),
    )
)


def test_code_that_begins_in_the_last_page_of_what_is_before_it() -> None:
    assert LLD.address_of(0x12000) == 0x13000
    assert ONE_PAGE.address_of(0) == 0x1000


def test_a_part_of_the_code_is_further_on() -> None:
    assert LLD.address_of(0x20000) == 0x21000


def test_what_is_no_code_has_no_address() -> None:
    assert LLD.address_of(0x50000) is None


class Host:
    """A process that maps one plugin at a time, each at its own address."""

    def __init__(self, plugin: Path) -> None:
        table = read_table(plugin)
        assert table
        self._plugin = plugin
        self._offset = next(each.offset for each in table.layout.segments if each.executable) // 4096 * 4096
        self._number = 0

    @property
    def address(self) -> int:
        """Of the code that is mapped."""
        return 0x7F0000000000 + self._number * 0x100000

    def load_another(self) -> None:
        self._number += 1

    def code_maps(self) -> tuple[Mapping, ...]:
        file = ("08:01", 1000 + self._number)
        return (Mapping(self.address, self.address + 0x1000, "r-xp", self._offset, *file, f"/{self._number}.so"),)

    def open_path(self, mapping: Mapping) -> Path:
        own = self._plugin.with_name(mapping.path.strip("/"))
        if not own.exists():
            shutil.copy(self._plugin, own)
        return own


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(compile_c("int work(int x) { return x + 1; }", tmp_path / "plugin", "-shared", "-fPIC"))


def tables_with_room_for_one(host: Any) -> ProcessTables:  # noqa: ANN401 - a stand-in
    tables = ProcessTables(host)
    tables.load(UnwindTables.private(tables.needed + Capacity(0, 0, 8)))
    return tables


def has_rows(tables: ProcessTables, host: Host) -> bool:
    """True where the code that the host has mapped is walked by its rows."""
    assert tables._tables
    return bool(tables._loaded[host.code_maps()[0].file]) and tables._tables.used.rows > 0


def test_plugins_that_are_loaded_one_after_another_have_the_room_of_one(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unwinding, "LOOKING_SHARE", float("inf"))  # as if an hour lay between two of them
    tables = tables_with_room_for_one(host)
    for _ in range(50):
        assert has_rows(tables, host)
        host.load_another()
        tables._look_at = 0.0
        assert tables.refresh()


def test_files_are_read_anew_for_room_only_as_often_as_there_is_time_for_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = tables_with_room_for_one(host)
    for expected in (True, False):
        host.load_another()
        tables._look_at = 0.0
        monkeypatch.setattr(unwinding, "LOOKING_SHARE", 1e-9)
        tables.refresh()
        assert has_rows(tables, host) is expected
    tables._look_at = tables._anew_at = 0.0  # later
    assert tables.refresh()
    assert has_rows(tables, host)


def test_a_file_that_cannot_be_read_anew_leaves_the_tables_as_they_are(host: Host) -> None:
    tables = tables_with_room_for_one(host)
    mapped = {mapping.file for mapping in host.code_maps()}
    host._plugin.with_name("0.so").write_bytes(b"gone")
    assert not tables._read_anew(mapped)
    assert has_rows(tables, host)


def test_what_was_just_read_is_not_read_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the samples beside a trace, and for a server's workers. Later it takes no memory any more."""
    tables = tables_with_room_for_one(host)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(unwinding, "read_table", None)
        assert has_rows(tables_with_room_for_one(host), host)
    tables._kept_until = 0.0
    tables.refresh()
    assert not tables._kept
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(unwinding, "read_table", lambda *_: None)
        assert not tables_with_room_for_one(host).objects


def test_a_file_whose_process_has_just_ended_is_read_for_the_next_one(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIVEN a worker that ended before its files could be opened THEN the one that is followed next has its rows."""

    def ended(mapping: Mapping) -> Path:
        raise LabError(f"{mapping.label} cannot be read", "trace it while it runs")

    following: Any = host
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(host, "open_path", ended)
        tables = ProcessTables(following)
    tables.load(UnwindTables.private(Capacity(1 << 10, 1 << 10, 1 << 6)))
    tables.follow(following)
    assert has_rows(tables, host)
