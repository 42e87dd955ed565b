"""The functions that an ELF file names, and where its calls into other files lead."""

from __future__ import annotations

import struct
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from elftools.elf.sections import Section

# Elf64_Sym and Elf64_Rela (System V ABI, chapter 4).
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_STT_FUNC, _STT_GNU_IFUNC = 2, 10
_PF_X = 1
# R_X86_64_GLOB_DAT and _JUMP_SLOT; R_AARCH64_ has 1025 and 1026.
_SLOTS = frozenset({6, 7, 1025, 1026})

# A section that is larger is no symbol table that a linker wrote: libLLVM's has 20 MiB.
MAX_SECTION_BYTES = 256 << 20


class Function(NamedTuple):
    """A function of the file: its address there, and its size in bytes. An indirect one is chosen when it is loaded."""

    address: int
    size: int
    indirect: bool


class _Segment(NamedTuple):
    address: int
    offset: int
    size: int
    executable: bool


class Linkage:
    """One 64-bit ELF file, opened for as long as its code is looked at.

    Args:
        stream: the file.

    Raises:
        ELFError: it is no ELF file, or is damaged.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._elf = ELFFile(stream)
        self.bits: int = self._elf.elfclass
        self.machine: str = self._elf.get_machine_arch()
        self._segments = tuple(
            _Segment(header["p_vaddr"], header["p_offset"], header["p_filesz"], bool(header["p_flags"] & _PF_X))
            for header in (segment.header for segment in self._elf.iter_segments("PT_LOAD"))
        )

    def functions(self, wanted: Callable[[str], bool]) -> dict[str, Function]:
        """The functions that the file defines under wanted names: exported ones, then those of its symbol table."""
        found: dict[str, Function] = {}
        for name in (".dynsym", ".symtab"):
            for symbol, function in self._functions(self._elf.get_section_by_name(name), wanted):
                found.setdefault(symbol, function)
        return found

    def _functions(self, table: Section | None, wanted: Callable[[str], bool]) -> Iterator[tuple[str, Function]]:
        if not isinstance(table, SymbolTableSection) or self.bits != 64:
            return
        strings = _data(self._elf.get_section(table["sh_link"]))
        for name, info, _, section, address, size in _records(_SYMBOL, _data(table)):
            kind = info & 0xF
            if section and kind in (_STT_FUNC, _STT_GNU_IFUNC):
                symbol = _string(strings, name)
                if wanted(symbol):
                    yield symbol, Function(address, size, kind == _STT_GNU_IFUNC)

    def data(self, name: str) -> int:
        """The address of an exported variable; 0 where there is none."""
        table = self._elf.get_section_by_name(".dynsym")
        if not isinstance(table, SymbolTableSection):
            return 0
        strings = _data(self._elf.get_section(table["sh_link"]))
        found = (
            address
            for at, _, _, section, address, _ in _records(_SYMBOL, _data(table))
            if section and _string(strings, at) == name
        )
        return next(found, 0)

    @property
    def slots(self) -> dict[int, str]:
        """The words that the dynamic linker fills with a function's address, each with the function's name."""
        return self._linked[0]

    @property
    def defined(self) -> dict[str, int]:
        """The functions that the file reaches by such a word though it defines them itself, with their addresses."""
        return self._linked[1]

    @cached_property
    def _linked(self) -> tuple[dict[int, str], dict[str, int]]:
        slots: dict[int, str] = {}
        defined: dict[str, int] = {}
        for table_name in (".rela.plt", ".rela.dyn"):
            section = self._elf.get_section_by_name(table_name)
            if section is None or not section["sh_link"]:
                continue
            table = self._elf.get_section(section["sh_link"])
            symbols, strings = _data(table), _data(self._elf.get_section(table["sh_link"]))
            for address, info, _ in _records(_RELOCATION, _data(section)):
                at = (info >> 32) * _SYMBOL.size
                if info & 0xFFFFFFFF in _SLOTS and at + _SYMBOL.size <= len(symbols):
                    name, _, _, section_index, value, _ = _SYMBOL.unpack_from(symbols, at)
                    slots[address] = symbol = _string(strings, name)
                    if section_index:
                        defined[symbol] = value
        return slots, defined

    def offset_of(self, address: int) -> int | None:
        """Where in the file an address lies."""
        segment = self._segment(address)
        return None if segment is None else address - segment.address + segment.offset

    def code_range(self, address: int) -> tuple[int, int] | None:
        """The executable segment that holds an address: its file offsets, [start, end)."""
        segment = self._segment(address)
        return (segment.offset, segment.offset + segment.size) if segment and segment.executable else None

    def read(self, address: int, limit: int) -> bytes:
        """Up to ``limit`` bytes from an address on; fewer at the end of its segment."""
        segment = self._segment(address)
        if segment is None:
            return b""
        self._stream.seek(address - segment.address + segment.offset)
        return self._stream.read(min(limit, segment.address + segment.size - address))

    def _segment(self, address: int) -> _Segment | None:
        return next((each for each in self._segments if each.address <= address < each.address + each.size), None)


def _data(section: Section) -> bytes:
    """A section's bytes; none of a larger one than any linker writes."""
    return section.data() if section["sh_size"] <= MAX_SECTION_BYTES else b""


def _records(record: struct.Struct, data: bytes) -> Iterator[tuple[int, ...]]:
    return record.iter_unpack(data[: len(data) - len(data) % record.size])


def _string(strings: bytes, at: int) -> str:
    return strings[at : strings.find(b"\0", at)].decode(errors="replace")
