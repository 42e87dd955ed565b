"""Makes ELF files that no linker makes: each section has the offset, the size and the content that a test gives it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HEADER, SECTION, SEGMENT = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQIIQQ"), struct.Struct("<IIQQQQQQ")
SYMBOL = struct.Struct("<IBBHQQ")
PROGBITS, SYMTAB, STRTAB, HASH, NOTE, DYNSYM, GNU_HASH = 1, 2, 3, 5, 7, 11, 0x6FFFFFF6
LOAD, NOTES = 1, 4
PAGE = 4096


@dataclass
class Section:
    """A section. ``offset`` and ``size`` say something else than the content's, where they are given."""

    name: str
    kind: int
    content: bytes = b""
    link: int = 0
    entry: int = 0
    flags: int = 0
    offset: int | None = None
    size: int | None = None


@dataclass
class Segment:
    """A segment of the file."""

    kind: int
    offset: int
    size: int
    flags: int = 5


def write_elf(
    path: Path,
    sections: Sequence[Section],
    segments: Sequence[Segment] = (Segment(LOAD, 0, PAGE),),
    *,
    section_count: int | None = None,
    first_section_size: int = 0,
    file_size: int = 0,
) -> Path:
    """Write a shared object for x86-64. It is at least a page, and ``file_size`` bytes where that is more (sparse)."""
    names = b"\0" + b"\0".join(section.name.encode() for section in sections) + b"\0.shstrtab\0"
    body = bytearray(HEADER.size + SEGMENT.size * len(segments))
    heads = [SECTION.pack(0, 0, 0, 0, 0, first_section_size, 0, 0, 0, 0)]
    name = 1
    for section in (*sections, Section(".shstrtab", STRTAB, names)):
        body += bytes(-len(body) % 8)
        offset = len(body) if section.offset is None else section.offset
        size = len(section.content) if section.size is None else section.size
        heads.append(
            SECTION.pack(name, section.kind, section.flags, offset, offset, size, section.link, 0, 8, section.entry)
        )
        body += section.content
        name += len(section.name) + 1
    body += bytes(-len(body) % 8)
    table = len(body)
    body += b"".join(heads)
    count = len(heads) if section_count is None else section_count
    identity = b"\x7fELF\2\1\1".ljust(16, b"\0")
    HEADER.pack_into(
        body, 0, identity, 3, 62, 1, 0, HEADER.size, table, 0, 64, 56, len(segments), 64, count, len(heads) - 1
    )
    for number, segment in enumerate(segments):
        SEGMENT.pack_into(
            body,
            HEADER.size + number * SEGMENT.size,
            *(segment.kind, segment.flags, segment.offset, segment.offset, segment.offset),
            *(segment.size, segment.size, PAGE),
        )
    with path.open("wb") as stream:
        stream.write(body)
        stream.truncate(max(len(body), PAGE, file_size))
    return path


def symbols(*names: str) -> list[Section]:
    """A dynamic symbol table with these functions, as the first two sections: names, then symbols."""
    text, table = b"\0", SYMBOL.pack(0, 0, 0, 0, 0, 0)
    for number, name in enumerate(names):
        table += SYMBOL.pack(len(text), 0x12, 0, 1, 0x100 + 16 * number, 16)
        text += name.encode() + b"\0"
    return [Section(".dynstr", STRTAB, text), Section(".dynsym", DYNSYM, table, link=1, entry=SYMBOL.size)]
