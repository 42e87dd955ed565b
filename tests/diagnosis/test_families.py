from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from heap_trace import Kind, Signature

from diagnosis.target.families import (
    C_HEAP,
    GLIBC_ONLY,
    JEMALLOC_EXTENSIONS,
    MAPPINGS,
    MIMALLOC,
    OPERATORS,
    TCMALLOC,
    find_families,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Each form of the operators that C++20 has, as a program uses it.
EVERY_OPERATOR = """
    #include <new>
    void *volatile sink;
    struct alignas(64) Wide { char body[64]; Wide() {} ~Wide() {} };
    struct Plain { char body[24]; Plain() {} ~Plain() {} };
    template <class T> void use() {
        T *one = new T;               sink = one; delete one;
        T *many = new T[3];           sink = many; delete[] many;
        one = new (std::nothrow) T;   sink = one; delete one;
        many = new (std::nothrow) T[3]; sink = many; delete[] many;
    }
    void all() { use<Plain>(); use<Wide>(); ::operator delete(sink); ::operator delete[](sink);
        ::operator delete(sink, std::align_val_t(64)); ::operator delete[](sink, std::align_val_t(64)); }
"""


def found(*names: str) -> dict[str, set[str]]:
    return {family.name: set(family.functions) for family in find_families(names)}


def test_a_c_library_has_both_ends_of_a_block() -> None:
    assert found("malloc", "free", "calloc", "mmap") == {"C": {"malloc", "free", "calloc", "mmap"}}
    assert found("malloc", "calloc") == {}


def test_mappings_are_read_beside_a_heap_alone() -> None:
    """A library that wraps mmap is no allocator: the call comes to the C library's."""
    assert found("mmap", "munmap") == {}


@pytest.mark.parametrize("prefix", ["je_", "_rjem_", "", "server_", "Xe__"])
def test_jemalloc_is_known_behind_any_prefix(prefix: str) -> None:
    names = {f"{prefix}{name}" for name in (*JEMALLOC_EXTENSIONS, "malloc", "free")}
    functions = found(*names)[f"jemalloc ({prefix}*)"]
    assert functions == names


def test_a_rust_program_has_only_what_it_uses_of_jemalloc() -> None:
    """The linker leaves the rest out: dallocx is none of Rust's."""
    names = {"_rjem_malloc", "_rjem_sdallocx", "_rjem_realloc"}
    assert found(*names) == {"jemalloc (_rjem_*)": names}


@pytest.mark.parametrize("name", ["do_rallocx", "smallocx", "xmalloc", "g_malloc", "xfree", "nallocx"])
def test_a_name_that_only_looks_like_one_is_none(name: str) -> None:
    assert found(name, "main") == {}


@pytest.mark.parametrize(("family", "names"), [("mimalloc", MIMALLOC), ("tcmalloc", TCMALLOC), ("C++", OPERATORS)])
def test_a_family_has_its_names(family: str, names: Mapping[str, Signature]) -> None:
    assert found(*names) == {family: set(names)}


def test_every_operator_that_a_compiler_calls_is_known(tmp_path: Path) -> None:
    source = tmp_path / "operators.cpp"
    source.write_text(EVERY_OPERATOR)
    assembler = subprocess.run(
        ["c++", "-std=c++20", "-O0", "-S", "-o", "-", str(source)], capture_output=True, text=True, check=True
    ).stdout
    called = {word.removesuffix("@PLT") for word in assembler.split() if word.startswith(("_Zn", "_Zd"))}
    assert len(called) >= 14
    assert called <= OPERATORS.keys()


def test_what_throws_is_what_has_no_other_way_to_fail() -> None:
    throwing = {name for name, each in {**OPERATORS, **TCMALLOC, **MIMALLOC}.items() if each.throws}
    assert {"_Znwm", "_ZnamSt11align_val_t", "tc_newarray", "mi_new_n"} <= throwing
    assert not any("nothrow" in name for name in throwing)
    assert all(C_HEAP[name].throws is False for name in C_HEAP)


def test_a_heap_of_its_own_is_the_first_argument() -> None:
    assert MIMALLOC["mi_calloc"] == Signature(Kind.ALLOCATE, size=2, count=1)
    assert MIMALLOC["mi_heap_calloc"] == Signature(Kind.ALLOCATE, size=3, count=2)
    assert MIMALLOC["mi_heap_realloc"] == Signature(Kind.REALLOCATE, pointer=2, size=3)


def test_only_glibcs_own_blocks_have_its_headers() -> None:
    """Linked statically, its other functions are beside an allocator that took malloc's place."""
    (c,) = find_families({*C_HEAP, *MAPPINGS, GLIBC_ONLY})
    assert {name for name, each in c.functions.items() if each.chunk_header} == set(C_HEAP)
    for names in ({*C_HEAP}, {*C_HEAP, *JEMALLOC_EXTENSIONS, GLIBC_ONLY}, {*C_HEAP, *MIMALLOC, GLIBC_ONLY}):
        assert not any(each.chunk_header for family in find_families(names) for each in family.functions.values())
