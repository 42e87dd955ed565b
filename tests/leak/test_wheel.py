"""The extension as `pip` builds and installs it: what a profiler needs of it has to survive the packaging."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection, SymbolTableSection

from tests.support.waiting import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from elftools.elf.sections import Symbol

PROJECT = Path(__file__).resolve().parents[2] / "native" / "leak"
MALLOC_STACK = Path(__file__).with_name("malloc_stack.c")
# A size that nothing else in the process asks for.
ENTRY_BYTES = 77_777

LEAK_ONCE = f"""
import time, catalog_cache
print(catalog_cache.__file__, flush=True)
options = catalog_cache.Options(
    chunk_bytes={ENTRY_BYTES}, refresh_bytes={ENTRY_BYTES}, start_delay_seconds=0, period_seconds=0.001
)
with catalog_cache.CatalogCache(options) as cache:
    cache.start()
    deadline = time.monotonic() + {LIMIT_SECONDS}
    while not cache.ledger().inserts:
        assert time.monotonic() < deadline
        time.sleep(0.001)
"""

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler: apt-get install gcc libc6-dev")


@pytest.fixture(scope="module")
def build_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheel")


@pytest.fixture(scope="module")
def installed(build_folder: Path) -> Path:
    """The folder that the freshly built wheel is installed to."""
    source = build_folder / "source"
    shutil.copytree(PROJECT, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "*.so", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-index", "--no-deps"]
    subprocess.run(
        [*pip, "wheel", "--no-build-isolation", *offline, "--wheel-dir", str(build_folder), str(source)], check=True
    )
    (wheel,) = build_folder.glob("*.whl")
    target = build_folder / "installed"
    subprocess.run([*pip, "install", *offline, "--target", str(target), str(wheel)], check=True)
    return target


@pytest.fixture(scope="module")
def extension(installed: Path) -> Path:
    (extension,) = (installed / "catalog_cache").glob("*.so")
    return extension


def symbols_of(elf: ELFFile) -> list[Symbol]:
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection), "the object is stripped"
    return list(table.iter_symbols())


def lines_of(elf: ELFFile) -> Iterator[tuple[int, str, int]]:
    """Address, file and line of every row of the debug information."""
    dwarf = elf.get_dwarf_info()
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        assert program, "a unit without line numbers"
        files = program["file_entry"]
        first = 0 if program["version"] >= 5 else 1
        for entry in program.get_entries():
            if entry.state and not entry.state.end_sequence:
                yield entry.state.address, files[entry.state.file - first].name.decode(), entry.state.line


def test_a_live_stack_in_malloc_is_insert_refresh_worker(installed: Path, extension: Path, build_folder: Path) -> None:
    """GIVEN the installed wheel, WHEN it leaks, THEN malloc's callers by frame pointer are those of the source."""
    preload = build_folder / "malloc_stack.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-fno-omit-frame-pointer", "-o", str(preload), str(MALLOC_STACK)], check=True
    )
    ended = subprocess.run(
        [sys.executable, "-c", LEAK_ONCE],
        env=os.environ | {"LD_PRELOAD": str(preload), "STACK_OF_BYTES": str(ENTRY_BYTES), "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    module, *callers = ended.stdout.splitlines()
    assert Path(module).is_relative_to(installed), "another installation was imported"

    with extension.open("rb") as file:
        elf = ELFFile(file)
        functions = [
            (symbol["st_value"], symbol["st_value"] + symbol["st_size"], symbol.name)
            for symbol in symbols_of(elf)
            if symbol["st_info"]["type"] == "STT_FUNC"
        ]
        names = []
        for caller in callers[:3]:
            path, offset = caller.rsplit(" ", 1)
            assert Path(path) == extension
            names += [name for low, high, name in functions if low <= int(offset) < high]
    assert names == ["catalog_cache_insert", "catalog_cache_refresh", "catalog_cache_worker"]
    assert "/libc" in callers[3] or "/libpthread" in callers[3], "the thread's start is the worker's caller"


def test_the_wheel_keeps_symbols_lines_and_a_build_id(extension: Path) -> None:
    source = (PROJECT / "src" / "catalog_cache.c").read_text().splitlines()
    with extension.open("rb") as file:
        elf = ELFFile(file)
        build_id = elf.get_section_by_name(".note.gnu.build-id")
        assert isinstance(build_id, NoteSection), "the object has no build id"
        (note,) = build_id.iter_notes()
        assert len(bytes.fromhex(note["n_desc"])) == 20
        (insert,) = (symbol for symbol in symbols_of(elf) if symbol.name == "catalog_cache_insert")
        low, high = insert["st_value"], insert["st_value"] + insert["st_size"]
        rows = {(file, line) for address, file, line in lines_of(elf) if low <= address < high}
    assert {file for file, _ in rows} == {"catalog_cache.c"}
    (malloc,) = (number for number, text in enumerate(source, 1) if "= malloc(" in text)
    assert malloc in {line for _, line in rows}


def test_the_wheel_does_not_name_the_machine_it_was_built_on(extension: Path, build_folder: Path) -> None:
    assert str(build_folder).encode() not in extension.read_bytes()


def test_no_symbol_gives_the_fault_away(extension: Path) -> None:
    with extension.open("rb") as file:
        names = {symbol.name for symbol in symbols_of(ELFFile(file))}
    assert "catalog_cache_refresh" in names
    assert not [name for name in names if "leak" in name.lower()]
