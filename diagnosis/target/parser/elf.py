"""ELF files of a target, read by the parser: nothing in them is taken for granted.

Sizes and counts are checked against the file and against limits before anything is read or allocated. The file itself
is read by pread: one that is cut short meanwhile is an error, where a mapped one would be a SIGBUS.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import TYPE_CHECKING

from elftools.common.exceptions import ELFError

from diagnosis.target.parser.elf_headers import (
    MAX_TABLE,
    PT_DYNAMIC,
    PT_LOAD,
    PT_NOTE,
    open_elf,
    read_sections,
    read_segments,
)
from diagnosis.target.parser.empty_symbols import hide_empty_functions
from diagnosis.target.parser.facts import ElfObject, Export

if TYPE_CHECKING:
    from collections.abc import Iterator

    from elftools.elf.elffile import ELFFile

    from diagnosis.target.parser.bounded_file import BoundedFile
    from diagnosis.target.parser.elf_headers import Section

# A debug build of a browser has 3 GiB, the largest object of a distribution (libLLVM) 150 MiB.
MAX_FILE = 1 << 30
# What of a file can be held at a time: symbol tables and debug information, and no code.
MAX_COPIED = 128 << 20
MAX_SYMBOLS = 1 << 20
MAX_NOTES = 64
MAX_FOUND = 64
_BUILD_ID_BYTES = range(2, 65)

_STT_FUNC, _STT_GNU_IFUNC = 2, 10
_SHN_UNDEF = 0
_SHT_SYMTAB, _SHT_STRTAB, _SHT_NOBITS, _SHT_DYNSYM = 2, 3, 8, 11
_SYMBOLS = {64: struct.Struct("<IBBHQQ"), 32: struct.Struct("<IIIBBH")}


def read_facts(descriptor: int) -> ElfObject:
    """Machine, segments and build id; no exports.

    Raises:
        ELFError: the file is no ELF file.
    """
    stream, elf = open_elf(descriptor)
    segments = read_segments(stream, elf, PT_LOAD)
    return ElfObject(elf.get_machine_arch(), elf.elfclass, segments, {}, _build_id(stream, elf))


def _build_id(stream: BoundedFile, elf: ELFFile) -> str:
    """The linker's, in hexadecimal digits; "" where there is none."""
    order = "<" if elf.little_endian else ">"
    for segment in read_segments(stream, elf, PT_NOTE):
        position, end = segment.offset, segment.offset + segment.size
        for _ in range(MAX_NOTES):
            if position + 12 > min(end, stream.size):
                break
            name_size, size, kind = struct.unpack(f"{order}III", stream.exactly(position, 12))
            described = position + 12 + -(-name_size // 4) * 4
            if (
                kind == 3
                and name_size == 4
                and size in _BUILD_ID_BYTES
                and stream.exactly(position + 12, 4) == b"GNU\0"
            ):
                return stream.exactly(described, size).hex()
            position = described + -(-size // 4) * 4
    return ""


def functions(descriptor: int, table: str) -> Iterator[Export]:
    """The functions that a symbol table defines. A name that is no UTF-8 is left out: no allocator has one.

    Args:
        descriptor: of the file.
        table: ``.dynsym`` or ``.symtab``.

    Raises:
        ELFError: the table is not all in the file, or larger than a real one.
    """
    stream, elf = open_elf(descriptor)
    found = _symbol_table(read_sections(stream, elf), table)
    if found is None or not elf.little_endian:
        return
    section, strings = found
    names = stream.exactly(strings.offset, strings.size)
    entry = _SYMBOLS[elf.elfclass]
    count = section.size // entry.size
    if count > MAX_SYMBOLS:
        raise ELFError(f"it has {count:,} symbols, and no more than {MAX_SYMBOLS:,} are read")
    for fields in entry.iter_unpack(stream.exactly(section.offset, count * entry.size)):
        if elf.elfclass == 64:
            name, info, _, where, address, length = fields
        else:
            name, address, length, info, _, where = fields
        if where != _SHN_UNDEF and info & 0xF in (_STT_FUNC, _STT_GNU_IFUNC):
            end = names.find(b"\0", name)
            try:
                yield Export(names[name:end].decode() if end >= 0 else "", address, length)
            except UnicodeDecodeError:
                continue


def mentions(descriptor: int, names: list[str]) -> bool:
    """Whether the names of the dynamic symbol table hold all these: a quick no for most files.

    Raises:
        ELFError: the file is no ELF file, or the names are not all in it.
    """
    stream, elf = open_elf(descriptor)
    found = _symbol_table(read_sections(stream, elf), ".dynsym")
    if found is None:
        return False
    text = stream.exactly(found[1].offset, found[1].size)
    return all(name.encode() + b"\0" in text for name in names)


def span_of(descriptor: int, prefix: str) -> tuple[int, int] | None:
    """The addresses from the first to behind the last function whose names begin so; None where there is none.

    Raises:
        ELFError: the file is no ELF file, or its symbols are not all in it, or are more than a real one has.
    """
    stream, elf = open_elf(descriptor)
    found = _symbol_table(read_sections(stream, elf), ".symtab")
    wanted = b"\0" + prefix.encode()
    if found is None or wanted not in stream.exactly(found[1].offset, found[1].size):
        return None
    spans = [
        (each.address, each.address + each.size)
        for each in functions(descriptor, ".symtab")
        if each.name.startswith(prefix)
    ]
    return (min(start for start, _ in spans), max(end for _, end in spans)) if spans else None


def names(descriptor: int, symbol: str, table: str) -> bool:
    """Whether a symbol table has a symbol of this name, defined or not.

    Raises:
        ELFError: the file is no ELF file, or its symbols are not all in it.
    """
    stream, elf = open_elf(descriptor)
    found = _symbol_table(read_sections(stream, elf), table)
    return found is not None and b"\0" + symbol.encode() + b"\0" in stream.exactly(found[1].offset, found[1].size)


def _symbol_table(sections: list[Section], name: str) -> tuple[Section, Section] | None:
    """A symbol table and the section of its names."""
    for section in sections:
        if section.name == name and section.kind in (_SHT_SYMTAB, _SHT_DYNSYM) and section.link < len(sections):
            return section, sections[section.link]
    return None


def copy_sections(descriptor: int, wanted: tuple[str, ...], dropped: tuple[str, ...] = ()) -> mmap.mmap:
    """A copy of a file in memory that holds its headers and some of its sections; all else is zero.

    Offsets stay as they are, and what is not copied takes no memory.

    Args:
        descriptor: of the file.
        wanted: how the names of the sections begin that are copied.
        dropped: how the names begin of those that the copy shall not have.

    Raises:
        ELFError: the file is no ELF file, or larger than can be held.
    """
    stream, elf = open_elf(descriptor)
    if stream.size > MAX_FILE:
        raise ELFError(f"it has {stream.size:,} bytes, and no more than {MAX_FILE:,} are read")
    sections = read_sections(stream, elf)
    pieces = [
        (0, elf["e_ehsize"]),
        (elf["e_phoff"], elf["e_phentsize"] * elf.num_segments()),
        (elf["e_shoff"], elf["e_shentsize"] * elf.num_sections()),
        *((section.offset, section.size) for section in sections if _is_wanted(section, wanted)),
        *_tables(stream, elf),
    ]
    if sum(size for _, size in pieces) > MAX_COPIED:
        raise ELFError(f"its symbols and debug information have more than {MAX_COPIED:,} bytes")
    copy = mmap.mmap(-1, max(stream.size, 1))
    for offset, size in pieces:
        if offset + size > stream.size:
            raise ELFError("a section is not all in the file")
        _copy(descriptor, copy, offset, size)
    for section in sections:
        if section.kind == _SHT_STRTAB and _is_wanted(section, wanted):
            _make_text(copy, section.offset, section.size)
        if section.kind == _SHT_SYMTAB and _is_wanted(section, wanted) and elf.elfclass == 64:
            hide_empty_functions(copy, section.offset, section.size)
        if section.name.startswith(dropped):
            # No name and no kind: symbolic finds debug information by the name alone.
            header = elf["e_shoff"] + section.number * elf["e_shentsize"]
            copy[header : header + 8] = bytes(8)
    return copy


def _make_text(copy: mmap.mmap, offset: int, size: int) -> None:
    """Bytes of names that are no UTF-8 become question marks: for one such name symbolic leaves out all of them."""
    names = copy[offset : offset + size]
    if not names.isascii():
        copy[offset : offset + size] = names.decode(errors="surrogateescape").encode(errors="replace")


def _is_wanted(section: Section, names: tuple[str, ...]) -> bool:
    return section.kind != _SHT_NOBITS and section.name.startswith(names)


def _tables(stream: BoundedFile, elf: ELFFile) -> Iterator[tuple[int, int]]:
    """What the dynamic linker reads, and notes, where the file has them: separate debug information does not."""
    for segment in read_segments(stream, elf, PT_DYNAMIC, PT_NOTE):
        if segment.size <= MAX_TABLE and segment.offset + segment.size <= stream.size:
            yield segment.offset, segment.size


def _copy(descriptor: int, copy: mmap.mmap, offset: int, size: int) -> None:
    with memoryview(copy) as view:
        while size:
            with view[offset : offset + min(size, 1 << 20)] as part:
                done = os.preadv(descriptor, [part], offset)
            if not done:
                raise ELFError("the file has been cut short")
            offset, size = offset + done, size - done
