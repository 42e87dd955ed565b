"""Which functions of which mapped file serve a process's heap, and where their probes go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from heap_trace import Function, Probe

from diagnosis.errors import LabError
from diagnosis.objects import read_code, read_object
from diagnosis.placement import CODE_BYTES, place

if TYPE_CHECKING:
    from pathlib import Path

    from diagnosis.objects import ElfObject
    from diagnosis.placement import Placement
    from diagnosis.process import Mapping, Process

# By exported name; several names can share one address, which is then probed once.
FUNCTIONS = {
    "malloc": Function.MALLOC,
    "calloc": Function.CALLOC,
    "realloc": Function.REALLOC,
    "reallocarray": Function.REALLOCARRAY,
    "aligned_alloc": Function.ALIGNED_ALLOC,
    "memalign": Function.ALIGNED_ALLOC,
    "posix_memalign": Function.POSIX_MEMALIGN,
    "valloc": Function.MALLOC,
    "pvalloc": Function.MALLOC,
    "free": Function.FREE,
    "mmap": Function.MMAP,
    "mmap64": Function.MMAP,
    "mremap": Function.MREMAP,
    "munmap": Function.MUNMAP,
}


@dataclass(frozen=True)
class PlacedProbe:
    """One probe and the choice behind it."""

    name: str
    probe: Probe
    placement: Placement


@dataclass(frozen=True)
class Allocator:
    """The file that serves a process's heap: its name in the process, a path that opens it, and the probes for it."""

    name: str
    path: Path
    probes: tuple[PlacedProbe, ...]


def find_allocator(process: Process) -> Allocator:
    """The C library that a process has mapped, with a probe for each function it exports.

    Raises:
        LabError: there is no C library to probe, or it cannot be read; the text says which kind of process this is.
    """
    libraries = {mapping.file: mapping for mapping in process.maps() if mapping.executable and _is_glibc(mapping)}
    if not libraries:
        raise _refusal(process)
    mapping = next(iter(libraries.values()))
    path = process.open_path(mapping)
    elf = read_object(path, mapping.path)
    if elf.bits != 64:
        raise LabError(f"pid {process.pid} is a {elf.bits}-bit process", "trace a 64-bit build of it")
    return Allocator(mapping.path, path, _probes(path, elf))


def _is_glibc(mapping: Mapping) -> bool:
    return PurePosixPath(mapping.path.removesuffix(" (deleted)")).name.startswith(("libc.so.6", "libc-2."))


def _refusal(process: Process) -> LabError:
    names = {PurePosixPath(mapping.path).name for mapping in process.maps() if mapping.executable and mapping.path}
    if any(name.startswith(("ld-musl-", "libc.musl-")) for name in names):
        return LabError(
            f"pid {process.pid} runs on musl, whose allocator is not traced",
            "run the program from an image with glibc, such as debian:stable-slim",
        )
    if not names - {"[vdso]", "[vsyscall]"}:
        return LabError(f"pid {process.pid} has no program mapped (a kernel thread?)", "choose a process of a program")
    return LabError(
        f"pid {process.pid} has no C library mapped: it is statically linked", "build it with a shared C library"
    )


def _probes(path: Path, elf: ElfObject) -> tuple[PlacedProbe, ...]:
    placed: dict[int, PlacedProbe] = {}
    for name, function in FUNCTIONS.items():
        export = elf.exports.get(name)
        if export is None or export.address in placed:
            continue
        placement = place(read_code(path, elf, export, CODE_BYTES), elf.machine)
        offset = elf.offset_of(export.address + placement.delta)
        if offset is not None:
            placed[export.address] = PlacedProbe(name, Probe(function, offset), placement)
    missing = {"malloc", "free"} - {probe.name for probe in placed.values()}
    if missing:
        raise LabError(f"{path} does not export {' and '.join(sorted(missing))}", "trace a process on glibc")
    return tuple(placed.values())
