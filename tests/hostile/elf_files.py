"""Files that have stopped, hung or filled tracers: each a few kilobytes on the disk."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from tests.hostile.elf_maker import (
    GNU_HASH,
    HASH,
    LOAD,
    NOTE,
    NOTES,
    PAGE,
    PROGBITS,
    Section,
    Segment,
    symbols,
    write_elf,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHF_COMPRESSED = 0x800
TERA = 1 << 40


def cyclic_hash(path: Path) -> Path:
    """A SysV hash table whose one chain comes back to itself."""
    table = struct.pack("<II", 1, 3) + struct.pack("<I", 1) + struct.pack("<III", 0, 2, 1)
    return write_elf(path, [*symbols("x", "x"), Section(".hash", HASH, table, link=2, entry=4)])


def huge_hash(path: Path) -> Path:
    """A SysV hash table of a thousand million chains, in a hole of the file."""
    size = 4 << 30
    table = Section(".hash", HASH, link=2, entry=4, offset=2 * PAGE, size=size)
    write_elf(path, [*symbols("x"), table], file_size=2 * PAGE + size)
    with path.open("r+b") as stream:
        stream.seek(2 * PAGE)
        stream.write(struct.pack("<II", 4, 1 << 30))
    return path


def empty_gnu_hash(path: Path) -> Path:
    """A GNU hash table without a bucket or a word of its filter: whoever takes the remainder divides by zero."""
    table = struct.pack("<IIII", 0, 1, 0, 0)
    return write_elf(path, [*symbols("x"), Section(".gnu.hash", GNU_HASH, table, link=2, entry=4)])


def endless_symbols(path: Path) -> Path:
    """A dynamic symbol table of a terabyte, in a hole of the file."""
    names, table = symbols("x")
    table.offset, table.size = 2 * PAGE, TERA // 24 * 24
    return write_elf(path, [names, table], file_size=TERA + 4 * PAGE)


def endless_sections(path: Path) -> Path:
    """As many sections as a terabyte has room for: the count stands in the first one."""
    return write_elf(path, symbols("x"), section_count=0, first_section_size=TERA // 64, file_size=TERA)


def note_of_another(path: Path) -> Path:
    """A note of the build id's type that is not GNU's, and whose bytes are no text."""
    note = struct.pack("<III", 4, 4, 3) + b"XYZ\0" + b"\xff\xfe\0\1"
    return _with_note(path, note, len(note) + 1)


def huge_note(path: Path) -> Path:
    """A build id of almost 4 GiB, in a hole of the file."""
    return _with_note(path, struct.pack("<III", 4, 0xFFFF_FFF0, 3) + b"GNU\0", 8 << 30)


def climbing_build_id(path: Path) -> Path:
    """A build id whose digits cannot be a path, whatever its bytes are."""
    note = struct.pack("<III", 4, 8, 3) + b"GNU\0" + b"../../..\0"
    return _with_note(path, note, len(note))


def _with_note(path: Path, note: bytes, size: int) -> Path:
    at = PAGE // 2
    sections = [*symbols("x"), Section(".note.x", NOTE, offset=at, size=len(note))]
    write_elf(
        path, sections, [Segment(LOAD, 0, PAGE), Segment(NOTES, at, size, flags=4)], file_size=max(2 * PAGE, size)
    )
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(note)
    return path


def self_linked(path: Path) -> Path:
    """A symbol table whose names are in itself."""
    names, table = symbols("x")
    table.link = 2
    return write_elf(path, [names, table])


def compressed(path: Path, size: int, real: int) -> Path:
    """Debug information that says of itself how much it becomes: ``size``. It does become ``real`` bytes of zeros."""
    packer = zlib.compressobj(9)
    zeros = bytes(1 << 20)
    data = b"".join(packer.compress(zeros[: min(len(zeros), real - done)]) for done in range(0, real, len(zeros)))
    content = struct.pack("<IIQQ", 1, 0, size, 1) + data + packer.flush()
    debug = [
        Section(name, PROGBITS, content, flags=SHF_COMPRESSED)
        for name in (".debug_info", ".debug_abbrev", ".debug_str", ".debug_line", ".debug_aranges")
    ]
    return write_elf(path, [*symbols("x"), *debug])


def bomb_by_size(path: Path) -> Path:
    """Debug information that says it becomes a terabyte."""
    return compressed(path, TERA, 64)


def bomb_by_content(path: Path) -> Path:
    """Debug information that does become five times a gigabyte."""
    return compressed(path, 1 << 30, 1 << 30)


#: By name, what writes each.
FILES: dict[str, Callable[[Path], Path]] = {
    function.__name__: function
    for function in (
        cyclic_hash,
        huge_hash,
        empty_gnu_hash,
        endless_symbols,
        endless_sections,
        note_of_another,
        huge_note,
        climbing_build_id,
        self_linked,
        bomb_by_size,
        bomb_by_content,
    )
}
