from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.target.objects import Export, defines, read_code, read_object
from diagnosis.target.process import Process
from tests.support.programs import compile_c

if TYPE_CHECKING:
    from pathlib import Path

    from diagnosis.target.mapping import Mapping
    from diagnosis.target.objects import ElfObject


# A shared object for i386, of a header and nothing else.
ELF32_HEADER = b"\x7fELF\x01\x01\x01".ljust(16, b"\0") + struct.pack(
    "<HHIIIIIHHHHHH", 3, 3, 1, 0, 0, 0, 0, 52, 32, 0, 40, 0, 0
)


# By name: in a program that is no PIE, the program's own entry stands for the library's function.
LIBC = ctypes.CDLL("libc.so.6")


@pytest.fixture(scope="module")
def libc_mapping() -> Mapping:
    """Where this process's C library has its code."""
    return next(
        mapping
        for mapping in Process(os.getpid()).maps()
        if mapping.executable and mapping.path.rpartition("/")[2].startswith(("libc.so.6", "libc-2."))
    )


@pytest.fixture(scope="module")
def libc_path(libc_mapping: Mapping) -> Path:
    return Process(os.getpid()).open_path(libc_mapping)


@pytest.fixture(scope="module")
def libc(libc_path: Path) -> ElfObject:
    return read_object(libc_path, "libc")


@pytest.mark.parametrize("name", ["malloc", "calloc", "realloc", "free", "posix_memalign", "mmap", "munmap"])
def test_the_offset_of_a_function_is_where_this_process_runs_it(
    libc: ElfObject, libc_mapping: Mapping, name: str
) -> None:
    """GIVEN where the dynamic linker put a function THEN the file's tables lead to the same byte."""
    address = ctypes.cast(getattr(LIBC, name), ctypes.c_void_p).value
    assert address
    offset = address - libc_mapping.start + libc_mapping.offset
    assert libc.offset_of(libc.exports[name].address) == offset
    assert libc.address_of(offset) == libc.exports[name].address


def test_the_code_of_a_function_is_what_this_process_runs(libc: ElfObject, libc_path: Path) -> None:
    address = ctypes.cast(LIBC.calloc, ctypes.c_void_p).value
    assert address
    export = libc.exports["calloc"]
    assert read_code(libc_path, libc, export, 64) == ctypes.string_at(address, 64)
    assert len(read_code(libc_path, libc, export, 1 << 20)) == export.size


def test_address_and_offset_lead_to_each_other_all_over_the_library(libc: ElfObject) -> None:
    assert len(libc.exports) > 1000
    for export in libc.exports.values():
        offset = libc.offset_of(export.address)
        assert offset is not None
        assert libc.address_of(offset) == export.address
    for segment in libc.segments:
        assert libc.address_of(segment.offset) == segment.address
        assert libc.offset_of(segment.address) == segment.offset
        assert libc.address_of(segment.offset + segment.size - 1) == segment.address + segment.size - 1


def test_what_lies_in_no_segment_has_no_address_and_no_code(libc: ElfObject, libc_path: Path) -> None:
    beyond = max(segment.address + segment.size for segment in libc.segments) + (1 << 30)
    assert libc.offset_of(beyond) is None
    assert libc.address_of(1 << 40) is None
    assert read_code(libc_path, libc, Export("nowhere", beyond, 16), 16) == b""


def test_addresses_that_differ_from_offsets_lead_to_the_right_code(tmp_path: Path) -> None:
    """A program that is not position independent lies at an address of its own."""
    program = compile_c("int main(void) { return 0x12345678; }\n", tmp_path / "fixed", "-no-pie")
    elf = read_object(program, "fixed", table=".symtab")
    main = elf.exports["main"]
    offset = elf.offset_of(main.address)
    assert offset is not None
    assert offset != main.address
    assert elf.address_of(offset) == main.address
    assert bytes.fromhex("78563412") in read_code(program, elf, main, 64)


def test_an_import_is_no_export_and_the_build_id_is_the_linker_s(tmp_path: Path) -> None:
    library = compile_c(
        "#include <stdlib.h>\nvoid *taken(void);\nvoid *taken(void) { return malloc(1); }\nint variable;\n",
        tmp_path / "libtaken.so",
        "-shared",
        "-fPIC",
        "-Wl,--build-id=0x0123456789abcdef",
    )
    elf = read_object(library, "libtaken.so")
    assert elf.build_id == "0123456789abcdef"
    assert elf.bits == 64
    assert "taken" in elf.exports
    assert not {"malloc", "variable"} & set(elf.exports)


def test_an_object_without_a_build_id_or_a_symbol_table_has_none(tmp_path: Path) -> None:
    program = compile_c("int main(void) { return 0; }\n", tmp_path / "plain", "-static", "-Wl,--build-id=none")
    elf = read_object(program, "plain")
    assert elf.build_id == ""
    assert elf.exports == {}


def test_a_32_bit_object_says_so(tmp_path: Path) -> None:
    path = tmp_path / "narrow"
    path.write_bytes(ELF32_HEADER)
    elf = read_object(path, "narrow")
    assert (elf.bits, elf.machine, elf.exports) == (32, "x86", {})


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x07\x07\x07"])
def test_what_is_no_elf_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "libc.so.6"
    path.write_bytes(content)
    with pytest.raises(LabError) as caught:
        read_object(path, "the library")
    assert str(caught.value).startswith("the library is no readable ELF file (")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"^the library cannot be read: No such file .*: .*restart the process$"):
        read_object(tmp_path / "gone", "the library")


def test_a_file_that_was_cut_off_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    """A copy that was interrupted, a disk that was full: the headers point behind the end of the file."""
    library = compile_c("int kept(void);\nint kept(void) { return 1; }\n", tmp_path / "whole.so", "-shared", "-fPIC")
    whole = library.read_bytes()
    cut = tmp_path / "cut.so"
    refused = 0
    for size in range(0, len(whole), 97):
        cut.write_bytes(whole[:size])
        try:
            read_object(cut, "cut.so")
        except LabError as error:
            refused += "is no readable ELF file" in str(error)
    assert refused > 10  # and nothing else was raised


def test_a_library_knows_which_functions_it_defines(libc_path: Path) -> None:
    assert defines(libc_path, {"malloc", "free"})
    assert not defines(libc_path, {"malloc", "malloc_of_another_library"})


def test_a_function_that_is_only_used_is_not_defined(tmp_path: Path) -> None:
    user = compile_c(
        "#include <stdlib.h>\nvoid *taken(void);\nvoid *taken(void) { return malloc(1); }\n",
        tmp_path / "libtaken.so",
        "-shared",
        "-fPIC",
    )
    assert defines(user, {"taken"})
    assert not defines(user, {"taken", "malloc"})


@pytest.mark.parametrize("style", ["gnu", "sysv", "both"])
def test_every_kind_of_hash_table_is_asked(tmp_path: Path, style: str) -> None:
    library = compile_c(
        "int here(void);\nint here(void) { return 1; }\n",
        tmp_path / "libhere.so",
        "-shared",
        "-fPIC",
        f"-Wl,--hash-style={style}",
    )
    assert defines(library, {"here"})
    assert not defines(library, {"there"})


def test_a_file_that_is_no_library_defines_nothing_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = compile_c("int here(void);\nint here(void) { return 1; }\n", tmp_path / "h.so", "-shared", "-fPIC")
    cut = tmp_path / "cut.so"
    for size in range(0, whole.stat().st_size, 97):
        cut.write_bytes(whole.read_bytes()[:size])
        assert not defines(cut, {"there"})
    assert not defines(tmp_path / "gone", {"here"})


def test_the_full_symbol_table_names_what_is_not_exported(tmp_path: Path) -> None:
    source = (
        "static __attribute__((noinline, used)) int hidden(void) { return 1; }\nint main(void) { return hidden(); }\n"
    )
    program = compile_c(source, tmp_path / "full")
    assert "hidden" not in read_object(program, "full").exports
    assert {"hidden", "main"} <= set(read_object(program, "full", table=".symtab").exports)
