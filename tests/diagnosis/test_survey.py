from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import capstone
import pytest
from heap_trace import Kind, Signature

from diagnosis.base.errors import LabError
from diagnosis.target.families import OPERATORS
from diagnosis.target.parser.linkage import Linkage
from diagnosis.target.survey import Survey, survey
from tests.support.allocator_libraries import JEMALLOC, MIMALLOC, PRELOADED, archive
from tests.support.programs import compile_c

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.allocator_libraries import Preloaded

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the code is x86-64's")

USES_NEW = """
    #include <new>
    #include <cstdio>
    struct alignas(64) Wide { char body[128]; };
    int main() {
        int *volatile many = new int[100]; delete[] many;
        Wide *volatile wide = new Wide; delete wide;
        int *volatile quiet = new (std::nothrow) int; delete quiet;
        try { throw 1; } catch (int) { puts("caught"); }
    }
"""


@cache
def read(path: Path) -> Survey:
    return survey(path, str(path))


def read_with(path: Path, custom: Mapping[str, Signature]) -> Survey:
    return survey(path, str(path), custom)


def names(found: Survey) -> set[str]:
    return {placed.name for placed in found.probes}


def compile_cpp(folder: Path, *flags: str | Path) -> Path:
    source, output = folder / "uses_new.cpp", folder / "uses_new"
    source.write_text(USES_NEW)
    done = subprocess.run(
        ["c++", "-O2", str(source), "-o", str(output), *map(str, flags)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot be linked here: {done.stderr.strip().splitlines()[-1]}")
    return output


@pytest.mark.parametrize("library", PRELOADED, ids=str)
def test_an_operator_that_serves_itself_is_probed_at_every_exit(library: Preloaded) -> None:
    """The code's own `ret` instructions, as another reader of it finds them, are among the exits."""
    path = library.path()
    found = read(path)
    assert found.blind_spots == ()
    throwing = [placed for placed in found.probes if placed.probe.signature.throws]
    assert throwing
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    with path.open("rb") as stream:
        linkage = Linkage(stream.fileno())
        functions = linkage.functions(lambda name: name in names(found))
        for placed in throwing:
            function, exits = functions[placed.name], placed.probe.exits
            code = linkage.read(function.address, function.size)
            swept = {
                linkage.offset_of(instruction.address)
                for instruction in disassembler.disasm(code, function.address)
                if instruction.mnemonic == "ret"
            }
            assert swept <= set(exits), placed.name
            for offset in exits:
                stream.seek(offset)
                assert stream.read(1) == b"\xc3", placed.name


@pytest.mark.parametrize("library", PRELOADED, ids=str)
def test_what_has_another_way_to_fail_has_a_return(library: Preloaded) -> None:
    found = read(library.path())
    assert all(bool(placed.probe.exits) is placed.probe.signature.throws for placed in found.probes)


@pytest.mark.parametrize("library", PRELOADED, ids=str)
def test_one_address_is_probed_once(library: Preloaded) -> None:
    """tcmalloc has up to four names for a function: free, cfree, tc_free and operator delete."""
    offsets = [placed.probe.offset for placed in read(library.path()).probes]
    assert len(offsets) == len(set(offsets))


def test_jemallocs_own_interface_is_probed() -> None:
    found = read(JEMALLOC.path())
    assert found.families == ("C", "jemalloc (*)", "C++")
    assert {"mallocx", "rallocx", "xallocx", "dallocx", "sdallocx", "_Znwm", "_ZdlPvm"} <= names(found)


def test_an_operator_that_ends_in_a_probed_function_is_not_probed_as_well() -> None:
    """jemalloc's plain delete jumps to free, and its aligned new calls aligned_alloc."""
    assert not {"_ZdlPv", "_Znam", "_ZnwmSt11align_val_t"} & names(read(JEMALLOC.path()))
    assert "mi_free" not in names(read(MIMALLOC.path()))  # it is free


def test_the_operators_of_the_c_plus_plus_library_end_in_malloc(tmp_path: Path) -> None:
    told = subprocess.run(["ldd", str(compile_cpp(tmp_path))], capture_output=True, text=True, check=True).stdout
    library = next(word for word in told.split() if word.startswith("/") and "libstdc++" in word)
    assert read(Path(library)) == Survey(64)


@pytest.mark.parametrize("flags", [["-static"], ["-static-libstdc++"], ["-static-libstdc++", "-fno-plt"]], ids=" ".join)
def test_the_same_operators_linked_into_a_program_do_so_too(tmp_path: Path, flags: list[str]) -> None:
    found = read(compile_cpp(tmp_path, *flags))
    assert not names(found) & OPERATORS.keys()
    assert found.blind_spots == ()
    assert ("malloc" in names(found)) is ("-static" in flags)


def test_jemalloc_linked_into_a_program_is_found_by_the_symbol_table(tmp_path: Path) -> None:
    found = read(compile_cpp(tmp_path, archive("libjemalloc.a", "libjemalloc-dev"), "-ldl", "-pthread"))
    assert {"malloc", "sdallocx", "_Znwm", "_ZdlPvm"} <= names(found)
    assert found.blind_spots == ()


def test_a_prefix_of_a_build_of_its_own_is_found_by_its_shape(tmp_path: Path) -> None:
    functions = ("mallocx", "rallocx", "xallocx", "dallocx", "sdallocx", "malloc", "free", "calloc")
    body = "".join(f"void *volatile at_{name}; void corp_{name}(void *p) {{ at_{name} = p; }}\n" for name in functions)
    found = read(compile_c(body, tmp_path / "libcorp.so", "-shared", "-fPIC", "-s"))
    assert found.families == ("jemalloc (corp_*)",)
    assert names(found) == {f"corp_{name}" for name in functions}


def test_functions_that_are_not_exported_are_found(tmp_path: Path) -> None:
    """As a linker leaves a static library in a shared object with a version script."""
    body = """
        void *volatile last;
        __attribute__((visibility("hidden"))) void mi_free(void *p) { last = p; }
        __attribute__((visibility("hidden"))) void *mi_malloc_aligned(unsigned long n, unsigned long a)
        { last = (void *)(n + a); return last; }
        void serve(void) { mi_free(mi_malloc_aligned(8, 8)); }
    """
    library = compile_c(body, tmp_path / "libserve.so", "-shared", "-fPIC", "-fno-inline")
    assert names(read(library)) == {"mi_free", "mi_malloc_aligned"}


def test_an_operator_whose_exits_cannot_be_found_is_a_blind_spot(tmp_path: Path) -> None:
    body = """
        void *(*volatile hook)(unsigned long);
        void *_Znwm(unsigned long n) { return hook(n); }
    """
    library = compile_c(
        body, tmp_path / "libhook.so", "-shared", "-fPIC", "-foptimize-sibling-calls", "-fomit-frame-pointer", "-O2"
    )
    found = read(library)
    assert found.probes == ()
    (spot,) = found.blind_spots
    assert spot.startswith("_Znwm of libhook.so is not traced: it jumps at 0x")


def test_a_function_that_is_chosen_when_it_is_loaded_is_a_blind_spot(tmp_path: Path) -> None:
    """Its symbol is the code that chooses."""
    body = """
        #include <stddef.h>
        static void give(void *p) { *(void *volatile *)p = 0; }
        static void *choose(void) { return give; }
        void free(void *) __attribute__((ifunc("choose")));
        void *volatile last;
        void *malloc(size_t n) { return last = (void *)n; }
    """
    found = read(compile_c(body, tmp_path / "libchosen.so", "-shared", "-fPIC", "-fno-builtin"))
    assert names(found) == {"malloc"}
    assert found.blind_spots == ("free of libchosen.so is not traced: which code it is, is chosen when it is loaded",)


def test_an_allocator_of_the_programs_own_comes_first(tmp_path: Path) -> None:
    body = """
        void *volatile last;
        void *pool_take(void *pool, unsigned long n) { last = pool; return (void *)n; }
        void pool_give(void *pool, void *p) { last = pool; *(void *volatile *)p = 0; }
    """
    custom = {
        "pool_take": Signature(Kind.ALLOCATE, size=2, encloses=True),
        "pool_give": Signature(Kind.FREE, pointer=2, encloses=True),
        "pool_absent": Signature(Kind.FREE, pointer=1),
    }
    library = compile_c(body, tmp_path / "libpool.so", "-shared", "-fPIC")
    found = read_with(library, custom)
    assert {placed.name: placed.probe.signature for placed in found.probes} == {
        name: custom[name] for name in ("pool_take", "pool_give")
    }
    assert found.families == ("--allocator",)
    assert read(library) == Survey(64)


def test_a_library_without_a_heap_has_none(tmp_path: Path) -> None:
    library = compile_c("int one(void) { return 1; }\n", tmp_path / "libone.so", "-shared", "-fPIC")
    assert read(library) == Survey(64)


def test_what_is_no_elf_file_raises(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("not an ELF file")
    with pytest.raises(LabError, match="text is no readable ELF file"):
        read(path)
