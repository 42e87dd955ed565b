"""Which functions of which mapped file serve a process's heap, and where their probes go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from heap_trace import Kind, Probe, Signature

from diagnosis.base.errors import LabError
from diagnosis.target.libc import is_libc
from diagnosis.target.objects import CODE_BYTES, choose_instruction, defines, read_code, read_object

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from diagnosis.target.objects import ElfObject, Placement
    from diagnosis.target.process import Mapping, Process

# By exported name; several names can share one address, which is then probed once.
FUNCTIONS = {
    "malloc": Signature(Kind.ALLOCATE, size=1),
    "calloc": Signature(Kind.ALLOCATE, size=2, count=1),
    "realloc": Signature(Kind.REALLOCATE, size=2, pointer=1),
    "reallocarray": Signature(Kind.REALLOCATE, size=3, count=2, pointer=1),
    "aligned_alloc": Signature(Kind.ALLOCATE, size=2),
    "memalign": Signature(Kind.ALLOCATE, size=2),
    "posix_memalign": Signature(Kind.ALLOCATE, size=3, pointer=1, stores_result=True),
    "valloc": Signature(Kind.ALLOCATE, size=1),
    "pvalloc": Signature(Kind.ALLOCATE, size=1),
    "free": Signature(Kind.FREE, pointer=1),
    "mmap": Signature(Kind.MMAP),
    "mmap64": Signature(Kind.MMAP),
    "mremap": Signature(Kind.MREMAP),
    "munmap": Signature(Kind.MUNMAP),
}

# What makes an object an allocator.
REQUIRED = frozenset({"malloc", "free"})

# Exported by glibc and by no allocator that takes its place: blocks have glibc's headers.
GLIBC_ONLY = "gnu_get_libc_version"

# `operator new(unsigned long)`, as compilers spell it.
CPP_NEW = "_Znwm"


@dataclass(frozen=True)
class PlacedProbe:
    """One probe and the choice behind it."""

    name: str
    probe: Probe
    placement: Placement


@dataclass(frozen=True)
class Allocator:
    """One file that serves a process's heap: its name in the process, a path that opens it, and the probes for it.

    ``blind_spots`` are lines that say what of it is not traced.
    """

    name: str
    path: Path
    probes: tuple[PlacedProbe, ...]
    blind_spots: tuple[str, ...] = ()


def find_allocators(process: Process, *, at_entry: bool = False) -> tuple[Allocator, ...]:
    """Every mapped object that exports an allocator: the C library, and one that was preloaded in its place.

    Whichever of them a call goes to, it is the outermost call that counts, so that one allocator may serve itself from
    another. A statically linked program has no such object: there the functions are found by its symbol table.

    Args:
        process: whose.
        at_entry: place each probe at its function's first instruction.

    Raises:
        LabError: there is no allocator to probe; the text says which kind of process this is.
    """
    mappings = {mapping.file: mapping for mapping in process.maps() if mapping.executable and _is_file(mapping)}
    found = []
    for mapping in mappings.values():
        try:
            path = process.open_path(mapping)
            if is_libc(mapping.path) or defines(path, REQUIRED):
                found.append(_allocator(process, mapping, path, read_object(path, mapping.path), at_entry=at_entry))
        except LabError:
            if is_libc(mapping.path):
                raise
            # It cannot be read and is not the C library: whether it serves a heap cannot be found out.
    return tuple(found) or (_static_allocator(process, mappings.values(), at_entry=at_entry),)


def _allocator(process: Process, mapping: Mapping, path: Path, elf: ElfObject, *, at_entry: bool) -> Allocator:
    if elf.bits != 64:
        raise LabError(f"pid {process.pid} is a {elf.bits}-bit process", "trace a 64-bit build of it")
    if missing := REQUIRED - elf.exports.keys():
        names = " and ".join(sorted(missing))
        raise LabError(f"{mapping.label} does not export {names}", "run the program with an unchanged glibc")
    # A return probe on operator new would be in the way of the exception that it throws when there is no memory.
    name = mapping.name
    blind = (
        f"C++ new and delete of {name} are not traced: it serves them without malloc. Trace without it preloaded."
        if CPP_NEW in elf.exports
        else ""
    )
    return Allocator(mapping.label, path, _probes(path, elf, at_entry=at_entry), (blind,) if blind else ())


def _static_allocator(process: Process, mappings: Iterable[Mapping], *, at_entry: bool) -> Allocator:
    for mapping in mappings:
        try:
            path = process.open_path(mapping)
            elf = read_object(path, mapping.path, table=".symtab")
        except LabError:
            continue
        if elf.exports.keys() >= REQUIRED:
            return _allocator(process, mapping, path, elf, at_entry=at_entry)
    raise _refusal(process)


def _is_file(mapping: Mapping) -> bool:
    return mapping.path.startswith("/") and mapping.inode != 0


def _refusal(process: Process) -> LabError:
    names = {PurePosixPath(mapping.path).name for mapping in process.maps() if mapping.executable and mapping.path}
    if not names - {"[vdso]", "[vsyscall]"}:
        return LabError(f"pid {process.pid} has no program mapped (a kernel thread?)", "choose a process of a program")
    return LabError(
        f"pid {process.pid} has no C library mapped and no malloc in its symbol table: it is statically linked and "
        f"stripped, or has no C heap",
        "keep the symbols of the build (no strip, no -s), or link it with a shared C library",
    )


def _probes(path: Path, elf: ElfObject, *, at_entry: bool) -> tuple[PlacedProbe, ...]:
    placed: dict[int, PlacedProbe] = {}
    glibc = GLIBC_ONLY in elf.exports
    for name, signature in FUNCTIONS.items():
        export = elf.exports.get(name)
        if export is None or export.address in placed:
            continue
        code = read_code(path, elf, export, CODE_BYTES)
        placement = choose_instruction(code, elf.machine, arguments=signature.arguments_read, at_entry=at_entry)
        offset = elf.offset_of(export.address + placement.delta)
        if offset is not None:
            probe = Probe(replace(signature, chunk_header=glibc), offset)
            placed[export.address] = PlacedProbe(name, probe, placement)
    return tuple(placed.values())
