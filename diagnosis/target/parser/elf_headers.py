"""The headers of an ELF file: of the file, its sections and its segments. Nothing in them is taken for granted."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import lru_cache

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from diagnosis.target.parser.bounded_file import BoundedFile
from diagnosis.target.parser.facts import Segment

MAX_SECTIONS = 4096
MAX_SEGMENTS = 256
MAX_TABLE = 1 << 20

PT_LOAD, PT_DYNAMIC, PT_NOTE = 1, 2, 4
_PF_X = 1


@dataclass(frozen=True)
class Section:
    """What a section header says, before anything of it is believed."""

    number: int
    name: str
    kind: int
    offset: int
    size: int
    link: int


def open_elf(descriptor: int) -> tuple[BoundedFile, ELFFile]:
    """An ELF file whose tables of sections and segments are of a size that a real one has.

    One question asks for many things of a file, each of which opens it: it is done once.

    Raises:
        ELFError: it is none.
    """
    state = os.fstat(descriptor)
    return _open(descriptor, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@lru_cache(maxsize=1)
def _open(descriptor: int, _: tuple[int, ...]) -> tuple[BoundedFile, ELFFile]:
    stream = BoundedFile(descriptor)
    elf = ELFFile(stream)  # type: ignore[arg-type] # what it calls of a file is there
    for what, count, most in (
        ("sections", elf.num_sections(), MAX_SECTIONS),
        ("segments", elf.num_segments(), MAX_SEGMENTS),
    ):
        if count > most:
            raise ELFError(f"it has {count:,} {what}, and no more than {most:,} are read")
    return stream, elf


def read_sections(stream: BoundedFile, elf: ELFFile) -> list[Section]:
    """The section headers. pyelftools reads what a section holds as soon as it is asked for it.

    Raises:
        ELFError: they are not all in the file.
    """
    count = elf.num_sections()
    if not count:
        return []
    layout = struct.Struct(("<" if elf.little_endian else ">") + ("IIQQQQIIQQ" if elf.elfclass == 64 else "10I"))
    if elf["e_shentsize"] != layout.size:
        raise ELFError(f"a section header of {elf['e_shentsize']} bytes")
    heads = list(layout.iter_unpack(stream.exactly(elf["e_shoff"], count * layout.size)))
    names = b""
    if (at := elf.get_shstrndx()) < count:
        names = stream.exactly(heads[at][4], heads[at][5]) if heads[at][5] <= MAX_TABLE else b""
    return [
        Section(number, names[name : names.find(b"\0", name)].decode(errors="replace"), kind, offset, size, link)
        for number, (name, kind, _, _, offset, size, link, *_) in enumerate(heads)
    ]


def read_segments(stream: BoundedFile, elf: ELFFile, *kinds: int) -> tuple[Segment, ...]:
    """The segments of these kinds, by their headers. pyelftools reads all sections for the one of the dynamic linker.

    Raises:
        ELFError: they are not all in the file.
    """
    count = elf.num_segments()
    wide = elf.elfclass == 64
    layout = struct.Struct(("<" if elf.little_endian else ">") + ("IIQQQQQQ" if wide else "8I"))
    if count and elf["e_phentsize"] != layout.size:
        raise ELFError(f"a program header of {elf['e_phentsize']} bytes")
    found = []
    for fields in layout.iter_unpack(stream.exactly(elf["e_phoff"], count * layout.size)) if count else ():
        if wide:
            kind, flags, offset, address, _, size, _, _ = fields
        else:
            kind, offset, address, _, size, _, flags, _ = fields
        if kind in kinds:
            found.append(Segment(offset, address, size, bool(flags & _PF_X)))
    return tuple(found)
