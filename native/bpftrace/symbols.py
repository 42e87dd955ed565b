# ruff: noqa: INP001 - a folder to copy, and no package
"""Functions of ELF files, and of what a process has mapped, with nothing but the standard library.

bpftrace resolves symbols itself, but through a libbcc that, before 0.33, closes files at random while it does
(https://github.com/iovisor/bcc/pull/5193): stacks then come out empty. So it is asked for addresses alone.
"""

from __future__ import annotations

import mmap
import re
import struct
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

PROC = Path("/proc")

MACHINE_X86_64 = 62
SEGMENT_LOAD = 1
SECTION_SYMTAB = 2
SECTION_DYNSYM = 11
SYMBOL_FUNCTION = 2
SYMBOL_BYTES = 24

_LIBC = re.compile(r"libc(\.so\.6|-2\.\d+\.so)( \(deleted\))?")


class RefusedError(Exception):
    """Why a process cannot be counted, and what would fix it."""


@dataclass(frozen=True)
class Function:
    """One function: its address and size in its file's own address space."""

    address: int
    size: int
    name: str


class Elf:
    """A 64-bit little-endian ELF file, read where needed. Another file has neither functions nor code.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._valid = self._bytes[:6] == b"\x7fELF\x02\x01"

    @property
    def is_x86_64(self) -> bool:
        """True for code that this file's rules on instructions are about."""
        return self._valid and self._at("<H", 18)[0] == MACHINE_X86_64

    def address_of(self, offset: int) -> int | None:
        """The address of a byte of the file."""
        return next(
            (offset - start + address for start, address, size in self._segments if 0 <= offset - start < size), None
        )

    def code(self, name: str, limit: int) -> bytes:
        """The first bytes of a function; none where there is no such function."""
        for function in self._functions:
            if function.name == name:
                for start, address, size in self._segments:
                    if 0 <= function.address - address < size:
                        offset = function.address - address + start
                        return self._bytes[offset : offset + limit]
        return b""

    def find(self, address: int) -> Function | None:
        """The function that holds an address."""
        at = bisect_right(self._addresses, address) - 1
        found = self._functions[at] if at >= 0 else None
        return found if found and address < found.address + found.size else None

    @cached_property
    def _segments(self) -> list[tuple[int, int, int]]:
        """Offset in the file, address and size of what is loaded."""
        if not self._valid:
            return []
        (table,), (size, count) = self._at("<Q", 32), self._at("<HH", 54)
        headers = (self._at("<IIQQQQ", table + i * size) for i in range(count))
        return [(offset, address, length) for kind, _, offset, address, _, length in headers if kind == SEGMENT_LOAD]

    @cached_property
    def _functions(self) -> list[Function]:
        """By address. A file that is not stripped names all of them; a stripped one those that it exports."""
        if not self._valid:
            return []
        (table,), (size, count) = self._at("<Q", 40), self._at("<HH", 58)
        # name, kind, flags, address, offset, size, link
        sections = [self._at("<IIQQQQI", table + i * size) for i in range(count)]
        tables = {section[1]: section for section in sections}
        symbols = tables.get(SECTION_SYMTAB) or tables.get(SECTION_DYNSYM)
        if not symbols:
            return []
        names = sections[symbols[6]][4]
        found = []
        for at in range(symbols[4], symbols[4] + symbols[5], SYMBOL_BYTES):
            name, info, _, section, address, length = self._at("<IBBHQQ", at)
            if section and info & 0xF == SYMBOL_FUNCTION:
                end = self._bytes.find(b"\0", names + name)
                found.append(Function(address, length, self._bytes[names + name : end].decode(errors="replace")))
        return sorted(found, key=lambda function: function.address)

    @cached_property
    def _addresses(self) -> list[int]:
        return [function.address for function in self._functions]

    def _at(self, form: str, offset: int) -> tuple[int, ...]:
        return struct.unpack_from(form, self._bytes, offset)


@dataclass(frozen=True)
class Mapping:
    """Code of one file in a process's memory; ``path`` is as the process sees it."""

    start: int
    end: int
    offset: int
    inode: int
    path: str


class Image:
    """What a process has mapped to run. Its files are opened through its own root directory, as in a container.

    Raises:
        RefusedError: there is no such process, or it is not this user's to read.
    """

    def __init__(self, pid: int, proc: Path = PROC) -> None:
        self._pid, self._root = pid, proc / str(pid) / "root"
        try:
            lines = (proc / str(pid) / "maps").read_text().splitlines()
        except PermissionError as error:
            raise RefusedError(f"the mappings of pid {pid} cannot be read: run this as root") from error
        except OSError as error:
            raise RefusedError(f"pid {pid} does not exist: list the processes with ps -e -o pid,args") from error
        self._mappings = [mapping for line in lines if (mapping := _parse(line))]
        self._files: dict[str, Elf | None] = {}

    def libc(self) -> Path:
        """A path that opens the C library.

        Raises:
            RefusedError: there is no glibc, or not the file any more that is mapped.
        """
        for mapping in self._mappings:
            if _LIBC.fullmatch(PurePosixPath(mapping.path).name):
                path = self._root / mapping.path.lstrip("/")
                if not path.exists() or path.stat().st_ino != mapping.inode:
                    raise RefusedError(
                        f"{mapping.path} was replaced since pid {self._pid} started: restart the process"
                    )
                return path
        if any("musl" in PurePosixPath(mapping.path).name for mapping in self._mappings):
            raise RefusedError(f"pid {self._pid} runs on musl, which this does not count: use an image with glibc")
        raise RefusedError(f"pid {self._pid} has no C library mapped: it is statically linked, or a kernel thread")

    def other_allocators(self) -> list[str]:
        """The files beside the C library that define malloc: a preloaded allocator, or the program itself."""
        found = {}
        for mapping in self._mappings:
            name = PurePosixPath(mapping.path).name
            # The dynamic linker has one for itself.
            if not _LIBC.fullmatch(name) and not name.startswith("ld-") and (file := self._file(mapping)):
                found[mapping.path] = bool(file.code("malloc", 1))
        return [path for path, defines in found.items() if defines]

    def describe(self, address: int) -> str:
        """``function+offset (file)`` of a return address, or as much of it as is known."""
        for mapping in self._mappings:
            if mapping.start <= address < mapping.end:
                break
        else:
            return f"{address:#x}"
        offset = address - mapping.start + mapping.offset
        file = self._file(mapping)
        # The call is the instruction before.
        own = file.address_of(offset - 1) if file else None
        function = file.find(own) if file and own is not None else None
        name = PurePosixPath(mapping.path).name
        if not function or own is None:
            return f"{offset:#x} ({name})"
        return f"{function.name}+{own + 1 - function.address} ({name})"

    def _file(self, mapping: Mapping) -> Elf | None:
        if mapping.path not in self._files:
            try:
                self._files[mapping.path] = Elf(self._root / mapping.path.lstrip("/"))
            except (OSError, ValueError):  # gone, or empty: the frame keeps its file's name
                self._files[mapping.path] = None
        return self._files[mapping.path]


def _parse(line: str) -> Mapping | None:
    """A line of /proc/PID/maps, if it is about code from a file."""
    words = line.split(maxsplit=5)
    if len(words) < 6 or "x" not in words[1]:
        return None
    start, _, end = words[0].partition("-")
    return Mapping(int(start, 16), int(end, 16), int(words[2], 16), int(words[4]), words[5])
