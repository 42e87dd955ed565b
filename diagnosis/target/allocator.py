"""Which functions of which mapped files serve a process's heap, and where their probes go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.target.families import REQUIRED
from diagnosis.target.libc import is_libc
from diagnosis.target.objects import file_state
from diagnosis.target.survey import PlacedProbe, survey

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from heap_trace import Signature

    from diagnosis.target.mapping import Mapping as MappedFile
    from diagnosis.target.objects import FileState
    from diagnosis.target.process import Process
    from diagnosis.target.survey import Survey

__all__ = ["Allocator", "PlacedProbe", "Surveys", "find_allocators", "find_more_allocators"]

# What a file has of a heap.
Surveys = dict["FileState", "Survey"]


@dataclass(frozen=True)
class Allocator:
    """One file that serves a process's heap: its name in the process, a path that opens it, and the probes for it.

    ``blind_spots`` are lines that say what of it is not traced; ``families`` the allocators that are in it; ``file`` is
    its device and inode.
    """

    name: str
    path: Path
    probes: tuple[PlacedProbe, ...]
    blind_spots: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    file: tuple[str, int] = ("", 0)


def find_allocators(
    process: Process,
    custom: Mapping[str, Signature] | None = None,
    *,
    at_entry: bool = False,
    surveys: Surveys | None = None,
) -> tuple[Allocator, ...]:
    """Every mapped file that has an allocator in it: the C library, what was preloaded in its place, what is linked in.

    Whichever of them a call goes to, it is the outermost call that counts, so that one allocator may serve itself from
    another.

    Args:
        process: whose.
        custom: functions that the user named, by symbol.
        at_entry: place each probe at its function's first instruction.
        surveys: what is known of files already, of this `custom` and `at_entry`, and is added to.

    Raises:
        LabError: there is no allocator to probe; the text says which kind of process this is.
    """
    found = find_more_allocators(process, (), custom, at_entry=at_entry, surveys=surveys)
    if not any(allocator.probes for allocator in found):
        raise _refusal(process)
    placed = {each.name for allocator in found for each in allocator.probes}
    if missing := [name for name in custom or () if name not in placed]:
        raise LabError(
            f"no file that pid {process.pid} has mapped defines {' or '.join(missing)}",
            "look the name up as the linker knows it: nm FILE, or nm -D FILE",
        )
    return found


def find_more_allocators(
    process: Process,
    known: Collection[tuple[str, int]],
    custom: Mapping[str, Signature] | None = None,
    *,
    at_entry: bool = False,
    surveys: Surveys | None = None,
) -> tuple[Allocator, ...]:
    """The allocators in files other than the known ones, by device and inode: none is no error here.

    Raises:
        LabError: the process has ended, or its C library cannot be read.
    """
    mappings = {mapping.file: mapping for mapping in process.code_maps() if _is_file(mapping)}
    found = (
        _allocator(process, mapping, custom or {}, surveys, at_entry=at_entry)
        for file, mapping in mappings.items()
        if file not in known
    )
    return tuple(allocator for allocator in found if allocator)


def _allocator(
    process: Process,
    mapping: MappedFile,
    custom: Mapping[str, Signature],
    surveys: Surveys | None,
    *,
    at_entry: bool,
) -> Allocator | None:
    libc = is_libc(mapping.path)
    try:
        path = process.open_path(mapping)
        state = file_state(path, str(path))
        found = (surveys or {}).get(state) or survey(path, mapping.path, custom, at_entry=at_entry)
    except LabError:
        if libc:
            raise
        return None  # not to be read, and not the C library: it serves no heap that could be told from here
    if surveys is not None:
        surveys[state] = found
    if libc:
        _check_libc(process, mapping, found)
    if not found.probes and not found.blind_spots:
        return None
    return Allocator(mapping.label, path, found.probes, found.blind_spots, found.families, mapping.file)


def _check_libc(process: Process, mapping: MappedFile, found: Survey) -> None:
    if found.bits != 64:
        raise LabError(f"pid {process.pid} is a {found.bits}-bit process", "trace a 64-bit build of it")
    if missing := REQUIRED - {placed.name for placed in found.probes}:
        names = " and ".join(sorted(missing))
        raise LabError(f"{mapping.label} does not export {names}", "run the program with an unchanged glibc")


def _is_file(mapping: MappedFile) -> bool:
    return mapping.path.startswith("/") and mapping.inode != 0


def _refusal(process: Process) -> LabError:
    names = {mapping.name for mapping in process.code_maps() if mapping.path}
    if not names - {"[vdso]", "[vsyscall]"}:
        return LabError(f"pid {process.pid} has no program mapped (a kernel thread?)", "choose a process of a program")
    return LabError(
        f"pid {process.pid} has no C library mapped and no malloc in its symbol table: it is statically linked and "
        f"stripped, or has no C heap, such as a program of Go without cgo",
        f"sample its page faults, which need no allocator: memleak-lab trace --light --pid {process.pid}; for exact"
        " counts keep the symbols of the build (no strip, no -s), or link it with a shared C library",
    )
