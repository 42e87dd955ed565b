"""`.gnu_debuglink`: the name of the file that holds an object's debug information, and how that file is known again."""

from __future__ import annotations

import os
import struct
import zlib

from elftools.common.exceptions import ELFError

from diagnosis.target.parser.elf import MAX_FILE, read_facts
from diagnosis.target.parser.elf_headers import open_elf, read_sections

# Read at a time.
_PIECE = 1 << 20

# The longest name of a file that Linux has.
_LONGEST_NAME = 255


def read_debug_link(descriptor: int) -> tuple[str, int]:
    """The name and the checksum; "" where there is none, or one that is no file's name.

    Raises:
        ELFError: the file is no ELF file.
    """
    stream, elf = open_elf(descriptor)
    for section in read_sections(stream, elf):
        if section.name == ".gnu_debuglink" and 4 < section.size <= _LONGEST_NAME + 8:
            data = stream.exactly(section.offset, section.size)
            # The name ends with a zero, and the checksum is the last word.
            name = data[:-4].split(b"\0")[0].decode(errors="replace")
            (checksum,) = struct.unpack_from("<I" if elf.little_endian else ">I", data, section.size - 4)
            return name, checksum
    return "", 0


def is_linked(descriptor: int, build_id: str, checksum: int) -> bool:
    """Whether a file has this build id; where none is known, whether its bytes have this checksum (CRC-32).

    Raises:
        ELFError: it is no ELF file, or larger than is read.
    """
    if build_id:
        return read_facts(descriptor).build_id == build_id
    size = os.fstat(descriptor).st_size
    if size > MAX_FILE:
        raise ELFError(f"it has {size:,} bytes, and no more than {MAX_FILE:,} are read")
    found = position = 0
    while piece := os.pread(descriptor, min(_PIECE, MAX_FILE - position), position):
        found = zlib.crc32(piece, found)
        position += len(piece)
    return found == checksum
