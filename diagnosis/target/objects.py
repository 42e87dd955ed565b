"""ELF files: exported functions, and the ways between file offsets and the addresses that symbols use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.hash import ELFHashSection, GNUHashSection
from elftools.elf.sections import SymbolTableSection
from elftools.elf.segments import NoteSegment

from diagnosis.base.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


@dataclass(frozen=True)
class Segment:
    """One PT_LOAD of the file: where its bytes lie in the file and in the object's own address space."""

    offset: int
    address: int
    size: int


@dataclass(frozen=True)
class Export:
    """One function of the dynamic symbol table: its address in the object, and its size in bytes."""

    name: str
    address: int
    size: int


@dataclass(frozen=True)
class ElfObject:
    """What the diagnosis needs of one ELF file, read once."""

    machine: str
    bits: int
    segments: tuple[Segment, ...]
    exports: dict[str, Export]
    build_id: str

    @property
    def base(self) -> int:
        """The address of the first segment: 0, except in a program that is linked to a fixed address."""
        return self.segments[0].address if self.segments else 0

    def address_of(self, offset: int) -> int | None:
        """The object's own address of a byte of the file, as symbol tables and DWARF use it."""
        for segment in self.segments:
            if segment.offset <= offset < segment.offset + segment.size:
                return offset - segment.offset + segment.address
        return None

    def offset_of(self, address: int) -> int | None:
        """The inverse of `address_of`: what a uprobe is placed by."""
        for segment in self.segments:
            if segment.address <= address < segment.address + segment.size:
                return address - segment.address + segment.offset
        return None


def defines(path: Path, names: Collection[str]) -> bool:
    """True where an ELF file exports all these functions. Asks its hash table: a big library has 100,000 symbols.

    A file that is no ELF exports nothing.
    """
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            tables = (elf.get_section_by_name(".gnu.hash"), elf.get_section_by_name(".hash"))
            table = next((table for table in tables if isinstance(table, (GNUHashSection, ELFHashSection))), None)
            if table is None:
                return set(names) <= _functions(elf, ".dynsym").keys()
            found = (table.get_symbol(name) for name in names)
            return all(symbol is not None and symbol["st_shndx"] != "SHN_UNDEF" for symbol in found)
    except (ELFError, OSError):
        return False


def read_object(path: Path, name: str, table: str = ".dynsym") -> ElfObject:
    """Read an ELF file.

    Args:
        path: what to open.
        name: what to call it in an error.
        table: which symbols `exports` holds: the exported ones, or with ``.symtab`` all that the file names.

    Raises:
        LabError: the file cannot be read or is no ELF.
    """
    try:
        with path.open("rb") as stream:
            return _read(ELFFile(stream), table)
    except ELFError as error:
        raise LabError(
            f"{name} is no readable ELF file ({error})", "restart the process from an intact file"
        ) from error
    except OSError as error:
        raise LabError(f"{name} cannot be read: {error.strerror}", "run this command as root") from error


def _functions(elf: ELFFile, table: str) -> dict[str, Export]:
    symbols = elf.get_section_by_name(table)
    return {
        symbol.name: Export(symbol.name, symbol["st_value"], symbol["st_size"])
        for symbol in (symbols.iter_symbols() if isinstance(symbols, SymbolTableSection) else ())
        if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["type"] in ("STT_FUNC", "STT_GNU_IFUNC")
    }


def _read(elf: ELFFile, table: str) -> ElfObject:
    segments = tuple(
        Segment(segment["p_offset"], segment["p_vaddr"], segment["p_filesz"])
        for segment in elf.iter_segments("PT_LOAD")
    )
    notes = (
        note for segment in elf.iter_segments() if isinstance(segment, NoteSegment) for note in segment.iter_notes()
    )
    build_id = next((note["n_desc"] for note in notes if note["n_type"] == "NT_GNU_BUILD_ID"), "")
    return ElfObject(elf.get_machine_arch(), elf.elfclass, segments, _functions(elf, table), build_id)


def read_code(path: Path, elf: ElfObject, export: Export, limit: int) -> bytes:
    """The first ``limit`` bytes of a function's code, or all of them where it is shorter."""
    offset = elf.offset_of(export.address)
    if offset is None:
        return b""
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(min(limit, export.size) if export.size else limit)
