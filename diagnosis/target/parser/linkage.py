"""The functions that an ELF file names, where its calls into other files lead, and its code, read by the parser."""

from __future__ import annotations

import struct
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from elftools.common.exceptions import ELFError

from diagnosis.target.parser.elf import MAX_SYMBOLS
from diagnosis.target.parser.elf_headers import PT_LOAD, open_elf, read_sections, read_segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from diagnosis.target.parser.elf_headers import Section
    from diagnosis.target.parser.facts import Segment

# Elf64_Sym and Elf64_Rela (System V ABI, chapter 4).
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_SHT_SYMTAB, _SHT_RELA, _SHT_DYNSYM = 2, 4, 11
_STT_OBJECT, _STT_FUNC, _STT_GNU_IFUNC = 1, 2, 10
# R_X86_64_GLOB_DAT and _JUMP_SLOT; R_AARCH64_ has 1025 and 1026.
_SLOTS = frozenset({6, 7, 1025, 1026})
# libLLVM's largest table has 500,000.
MAX_RELOCATIONS = 1 << 21


class Symbol(NamedTuple):
    """A function or variable of the file: its address there, and its size in bytes.

    An indirect one (IFUNC) is chosen when it is loaded: the address is of what chooses.
    """

    address: int
    size: int
    indirect: bool


class Linkage:
    """One ELF file, for as long as its code is looked at.

    Args:
        descriptor: of the file.

    Raises:
        ELFError: it is no ELF file, or is damaged.
    """

    def __init__(self, descriptor: int) -> None:
        self._stream, elf = open_elf(descriptor)
        self._sections = read_sections(self._stream, elf)
        self.bits: int = elf.elfclass
        self.machine: str = elf.get_machine_arch()
        self._readable = self.bits == 64 and elf.little_endian
        self._segments = read_segments(self._stream, elf, PT_LOAD)

    @property
    def base(self) -> int:
        """The address of the first segment."""
        return self._segments[0].address if self._segments else 0

    @property
    def has_symbol_table(self) -> bool:
        """True where the file names its own functions too, and not just those that it exports."""
        return any(section.kind == _SHT_SYMTAB for section in self._sections)

    def functions(self, wanted: Callable[[str], bool]) -> dict[str, Symbol]:
        """The functions that the file defines under wanted names: exported ones, then those of its symbol table."""
        return self._symbols((_SHT_DYNSYM, _SHT_SYMTAB), (_STT_FUNC, _STT_GNU_IFUNC), wanted)

    def variables(self, wanted: Callable[[str], bool]) -> dict[str, Symbol]:
        """The variables that it exports under wanted names."""
        return self._symbols((_SHT_DYNSYM,), (_STT_OBJECT,), wanted)

    def _symbols(
        self, tables: tuple[int, ...], kinds: tuple[int, ...], wanted: Callable[[str], bool]
    ) -> dict[str, Symbol]:
        found: dict[str, Symbol] = {}
        for table in tables:
            for section in self._sections if self._readable else ():
                if section.kind != table:
                    continue
                strings = self._strings(section)
                for name, info, _, where, address, size in self._records(_SYMBOL, section, MAX_SYMBOLS):
                    if where and info & 0xF in kinds and wanted(symbol := _string(strings, name)):
                        found.setdefault(symbol, Symbol(address, size, info & 0xF == _STT_GNU_IFUNC))
        return found

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
        for section in self._sections:
            table = self._section(section.link)
            if section.kind != _SHT_RELA or table is None or table.kind != _SHT_DYNSYM:
                continue
            strings = self._strings(table)
            symbols = list(self._records(_SYMBOL, table, MAX_SYMBOLS))
            for address, info, _ in self._records(_RELOCATION, section, MAX_RELOCATIONS):
                if info & 0xFFFFFFFF in _SLOTS and info >> 32 < len(symbols):
                    name, _, _, where, value, _ = symbols[info >> 32]
                    slots[address] = symbol = _string(strings, name)
                    if where:
                        defined[symbol] = value
        return slots, defined

    def offset_of(self, address: int) -> int | None:
        """Where in the file an address lies."""
        segment = self._segment(address)
        return None if segment is None else address - segment.address + segment.offset

    def is_code(self, address: int) -> bool:
        """True for an address in an executable segment."""
        segment = self._segment(address)
        return segment is not None and segment.executable

    def read(self, address: int, limit: int) -> bytes:
        """Up to ``limit`` bytes from an address on; fewer at the end of its segment."""
        segment = self._segment(address)
        if segment is None:
            return b""
        self._stream.seek(address - segment.address + segment.offset)
        return self._stream.read(min(limit, segment.address + segment.size - address))

    def _segment(self, address: int) -> Segment | None:
        return next((each for each in self._segments if each.address <= address < each.address + each.size), None)

    def _section(self, number: int) -> Section | None:
        return self._sections[number] if 0 < number < len(self._sections) else None

    def _strings(self, table: Section) -> bytes:
        strings = self._section(table.link)
        return self._stream.exactly(strings.offset, strings.size) if strings else b""

    def _records(self, record: struct.Struct, section: Section, most: int) -> Iterator[tuple[int, ...]]:
        count = section.size // record.size
        if count > most:
            raise ELFError(f"a table of {count:,} entries, and no more than {most:,} are read")
        return record.iter_unpack(self._stream.exactly(section.offset, count * record.size))


def _string(strings: bytes, at: int) -> str:
    return strings[at : strings.find(b"\0", at)].decode(errors="replace")
