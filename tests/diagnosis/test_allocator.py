from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from heap_trace import Kind

from diagnosis.base.errors import LabError
from diagnosis.target.allocator import find_allocators
from diagnosis.target.families import C_HEAP, MAPPINGS
from diagnosis.target.objects import read_object
from diagnosis.target.process import Process
from tests.diagnosis.recorded import PID, record
from tests.diagnosis.test_objects import ELF32_HEADER
from tests.support.programs import answer, compile_c, running

if TYPE_CHECKING:
    from pathlib import Path

    from diagnosis.target.allocator import Allocator

FUNCTIONS = {**C_HEAP, **MAPPINGS}
PROGRAM = "1000-2000 r-xp 00000000 fd:01 130 /usr/bin/catalog\n"
VDSO = "3000-4000 r-xp 00000000 00:00 0 [vdso]\n"


@pytest.fixture
def own() -> Allocator:
    """The allocator of this very process."""
    return find_allocators(Process(os.getpid()))[0]


def with_library(proc: Path, library: Path, name: str = "libc.so.6") -> Process:
    """A recorded process that has a file mapped as its C library."""
    maps = PROGRAM + f"5000-6000 r-xp 00000000 fd:01 {library.stat().st_ino} /lib/{name}\n" + VDSO
    process = record(proc, maps=maps)
    (proc / str(PID) / "root" / "lib").symlink_to(library.parent)
    library.rename(library.with_name(name))
    return process


def test_every_allocating_function_of_this_libc_is_probed_inside_its_own_code(own: Allocator) -> None:
    elf = read_object(own.path, own.name)
    covered = set()
    for placed in own.probes:
        export = elf.exports[placed.name]
        address = elf.address_of(placed.probe.offset)
        assert address == export.address + placed.placement.delta
        assert address < export.address + export.size
        assert replace(placed.probe.signature, chunk_header=False) == FUNCTIONS[placed.name]
        assert placed.probe.signature.chunk_header is (placed.name in C_HEAP)
        assert placed.probe.exits == ()
        covered |= {name for name, other in elf.exports.items() if other.address == export.address}
    covered |= {"free_sized", "free_aligned_sized"}  # glibc's jump to free: it is probed there
    assert covered >= set(FUNCTIONS) & set(elf.exports)
    assert {placed.probe.signature.kind for placed in own.probes} == set(Kind) - {Kind.RESIZE, Kind.DISCARD}


def test_names_that_share_an_address_are_probed_once(own: Allocator) -> None:
    """aligned_alloc and memalign, mmap and mmap64: two probes in one place would count each call twice."""
    offsets = [placed.probe.offset for placed in own.probes]
    assert len(offsets) == len(set(offsets))
    assert len(offsets) < len(FUNCTIONS)


def test_a_statically_linked_and_stripped_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=f"^pid {PID} .*statically linked and stripped.*shared C library") as refused:
        find_allocators(record(tmp_path, maps=PROGRAM + VDSO))
    assert f"memleak-lab trace --light --pid {PID}" in refused.value.remedy


@pytest.mark.parametrize("maps", ["", VDSO])
def test_a_kernel_thread_is_refused(tmp_path: Path, maps: str) -> None:
    with pytest.raises(LabError, match=f"^pid {PID} has no program mapped"):
        find_allocators(record(tmp_path, maps=maps))


def test_a_libc_that_is_mapped_without_code_is_none(tmp_path: Path) -> None:
    maps = PROGRAM + "5000-6000 r--p 00000000 fd:01 131 /lib/libc.so.6\n"
    with pytest.raises(LabError, match="statically linked"):
        find_allocators(record(tmp_path, maps=maps))


def test_a_libc_that_was_upgraded_on_disk_is_found_through_its_link(tmp_path: Path, own: Allocator) -> None:
    maps = PROGRAM + "5000-6000 r-xp 00000000 fd:01 131 /lib/libc.so.6 (deleted)\n"
    process = record(tmp_path, maps=maps)
    (tmp_path / str(PID) / "map_files" / "5000-6000").symlink_to(own.path)
    assert [placed.probe for placed in find_allocators(process)[0].probes] == [placed.probe for placed in own.probes]


def test_a_libc_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    library = tmp_path / "scrambled"
    library.write_text("not an ELF file")
    with pytest.raises(LabError, match=r"^/lib/libc.so.6 is no readable ELF file \(.*\): .*intact") as caught:
        find_allocators(with_library(tmp_path, library))
    assert "\n" not in str(caught.value)


def test_a_libc_that_has_gone_is_one_line(tmp_path: Path) -> None:
    process = record(tmp_path, maps=PROGRAM + "5000-6000 r-xp 00000000 fd:01 131 /lib/libc.so.6\n")
    with pytest.raises(LabError, match=rf"^/lib/libc.so.6 of pid {PID} cannot be read: No such file or directory"):
        find_allocators(process)


def test_a_32_bit_process_is_refused(tmp_path: Path) -> None:
    library = tmp_path / "narrow"
    library.write_bytes(ELF32_HEADER)
    with pytest.raises(LabError, match=f"^pid {PID} is a 32-bit process: .*64-bit"):
        find_allocators(with_library(tmp_path, library))


def test_a_libc_without_malloc_or_free_is_refused_by_their_names(tmp_path: Path) -> None:
    library = compile_c(
        "#include <stdlib.h>\nvoid *calloc(size_t n, size_t m) { return (void *)(n * m); }\n",
        tmp_path / "poor",
        "-shared",
        "-fPIC",
        "-fno-builtin",
    )
    with pytest.raises(LabError, match=r"does not export free and malloc: .*glibc"):
        find_allocators(with_library(tmp_path, library))


WAITING = '#include <stdio.h>\nint main(void) { puts("here"); fflush(stdout); getchar(); }\n'
ALLOCATOR = """
    #include <stddef.h>
    void *malloc(size_t bytes) { return (void *)bytes; }
    void free(void *block) { (void)block; }
"""


def small_allocator(output: Path, more: str = "") -> Path:
    """A shared object that exports a malloc and a free of its own."""
    return compile_c(ALLOCATOR + more, output, "-shared", "-fPIC", "-fno-builtin")


@pytest.mark.parametrize("name", ["ld-musl-x86_64.so.1", "libfast.so"])
def test_an_allocator_other_than_glibc_s_is_probed(tmp_path: Path, name: str) -> None:
    """musl's, and one that was preloaded: whatever the file is called."""
    process = with_library(tmp_path, small_allocator(tmp_path / "allocator"), name)
    (found,) = find_allocators(process)
    assert found.name == f"/lib/{name}"
    assert {placed.name for placed in found.probes} == {"malloc", "free"}
    assert found.blind_spots == ()


def test_every_allocator_of_a_running_process_is_found(tmp_path: Path) -> None:
    """A preloaded one and the C library beneath it; a library that only uses malloc is none."""
    preloaded = compile_c(
        """
        #include <stddef.h>
        void *__libc_malloc(size_t);
        void __libc_free(void *);
        void *malloc(size_t bytes) { return __libc_malloc(bytes); }
        void free(void *block) { __libc_free(block); }
        """,
        tmp_path / "libpreloaded.so",
        "-shared",
        "-fPIC",
        "-fno-builtin",
    )
    with running("env", f"LD_PRELOAD={preloaded}", sys.executable, "-c", "print(1, flush=True); input()") as program:
        answer(program)
        found = find_allocators(Process(program.pid))
    names = [allocator.name.rpartition("/")[2] for allocator in found]
    assert sorted(names) == ["libc.so.6", "libpreloaded.so"]


def test_a_static_program_is_probed_by_its_symbol_table(tmp_path: Path) -> None:
    program = compile_c(WAITING, tmp_path / "static", "-static")
    with running(program) as process:
        answer(process)
        (found,) = find_allocators(Process(process.pid))
    assert found.name == str(program)
    assert {"malloc", "calloc", "realloc", "free"} <= {placed.name for placed in found.probes}


def test_a_static_program_without_its_symbols_says_how_to_build_it(tmp_path: Path) -> None:
    with running(compile_c(WAITING, tmp_path / "static", "-static", "-s")) as process:
        answer(process)
        with pytest.raises(LabError, match=f"^pid {process.pid} .*no malloc in its symbol table.*no strip"):
            find_allocators(Process(process.pid))
