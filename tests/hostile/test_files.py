"""Files of a target that are made against the parser, seen from the whole command."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.parser.elf_headers import open_elf, read_sections
from tests.hostile.elf_files import FILES, SHF_COMPRESSED
from tests.hostile.programs import deep_inlining
from tests.hostile.running import GENEROUS_SECONDS, MEMLEAK_LAB, MIB, functions, hostile, report, trace

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_of_its_making_costs_a_target_no_more_than_names(name: str, mapper: Path, folder: Path) -> None:
    """GIVEN a process that maps such a file as code THEN it is traced, its leak is named, and it took no longer."""
    made = FILES[name](folder / f"{name}.so")
    with hostile(mapper, made) as pid:
        result = trace(pid, "--format", "json")
    assert functions(json.loads(result.out))[0] == "leak"


def test_debug_information_that_is_a_bomb_costs_lines_and_no_names(
    trampoline: Path, plugin_host: Path, folder: Path
) -> None:
    """GIVEN a library in a stack, whose compressed debug information becomes a terabyte THEN its function is named."""
    bomb = folder / "libbomb.so"
    bomb.write_bytes(_compressed(trampoline, 1 << 40))
    with hostile(plugin_host, bomb) as pid:
        found = report(pid)
    assert functions(found)[:3] == ["leak", "tramp", "main"]
    assert found["lost"]["names"] == 1
    assert any("libbomb.so are missing: the parser" in note for note in found["notes"])


def _compressed(library: Path, size: int) -> bytes:
    """The library with debug information whose header says that it becomes so many bytes."""
    content = bytearray(library.read_bytes())
    with library.open("rb") as stream:
        _, elf = open_elf(stream.fileno())
        sections = read_sections(*open_elf(stream.fileno()))
    for section in sections:
        if section.name in (".debug_info", ".debug_line", ".debug_str"):
            packed = struct.pack("<IIQQ", 1, 0, size, 1) + zlib.compress(bytes(64))
            header = elf["e_shoff"] + 64 * section.number
            struct.pack_into("<Q", content, header + 8, SHF_COMPRESSED)
            struct.pack_into("<QQ", content, header + 24, len(content), len(packed))
            content += packed
    return bytes(content)


@pytest.mark.parametrize("levels", [200_000])
def test_debug_information_that_nests_without_end_costs_no_names(levels: int, plugin_host: Path, folder: Path) -> None:
    deep = folder / "libdeep.so"
    subprocess.run(
        ["cc", "-x", "assembler", "-", "-shared", "-o", deep], input=deep_inlining(levels).encode(), check=True
    )
    with hostile(plugin_host, deep) as pid:
        found = report(pid)
    assert functions(found)[0] == "leak"
    assert "tramp" in functions(found)


@pytest.mark.parametrize("kind", ["cut", "grown", "gone"])
def test_a_library_that_changes_while_it_is_read_does_no_harm(
    kind: str, trampoline: Path, plugin_host: Path, folder: Path
) -> None:
    """GIVEN a mapped library WHEN its owner cuts it short, again and again THEN the trace ends with its numbers."""
    library = folder / f"lib{kind}.so"
    library.write_bytes(trampoline.read_bytes() + bytes(8 * MIB))
    whole = library.stat().st_size
    with (
        hostile(plugin_host, library) as pid,
        subprocess.Popen(
            [MEMLEAK_LAB, "trace", "--pid", str(pid), "--duration", "1s", "--format", "json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as tracer,
    ):
        # Never into the page of the code: its own process would die of it.
        while tracer.poll() is None:
            if kind == "gone":
                library.unlink(missing_ok=True)
                break
            os.truncate(library, whole // 2 if kind == "cut" else whole * 2)
            os.truncate(library, whole)
        out, err = tracer.communicate(timeout=GENEROUS_SECONDS)
    assert tracer.returncode == 0, err
    assert functions(json.loads(out))[0] == "leak"
