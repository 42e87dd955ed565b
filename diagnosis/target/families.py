"""Which functions serve a heap, by name: the families of allocators, and where each function's arguments are.

Sources: C23 7.24.3 and the manual pages of glibc; jemalloc(3); mimalloc.h; gperftools' tcmalloc.h; the C++ standard's
[new.delete] as the Itanium C++ ABI mangles it for a 64-bit `size_t`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from heap_trace import Kind, Signature

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


def _allocate(size: int, count: int = 0) -> Signature:
    return Signature(Kind.ALLOCATE, size=size, count=count)


def _reallocate(pointer: int, size: int, count: int = 0) -> Signature:
    return Signature(Kind.REALLOCATE, pointer=pointer, size=size, count=count)


_FREE = Signature(Kind.FREE, pointer=1)

# Several names can share one address, which is then probed once, as the first of them.
C_HEAP: Mapping[str, Signature] = {
    "malloc": _allocate(1),
    "calloc": _allocate(2, 1),
    "realloc": _reallocate(1, 2),
    "reallocarray": _reallocate(1, 3, 2),
    "reallocf": _reallocate(1, 2),
    "aligned_alloc": _allocate(2),
    "memalign": _allocate(2),
    "posix_memalign": Signature(Kind.ALLOCATE, pointer=1, size=3, stores_result=True),
    "valloc": _allocate(1),
    "pvalloc": _allocate(1),
    "free": _FREE,
    "cfree": _FREE,
    "free_sized": _FREE,
    "free_aligned_sized": _FREE,
}

MAPPINGS: Mapping[str, Signature] = {
    "mmap": Signature(Kind.MMAP),
    "mmap64": Signature(Kind.MMAP),
    "mremap": Signature(Kind.MREMAP),
    "munmap": Signature(Kind.MUNMAP),
}

# The second names of the C library's own functions: a function that ends in one of them ends in a probed one.
C_ALIASES: Mapping[str, Signature] = {
    f"__libc_{name}": C_HEAP[name]
    for name in ("malloc", "calloc", "realloc", "reallocarray", "memalign", "valloc", "pvalloc", "free")
}

# jemalloc's own interface, behind any prefix. xallocx resizes in place, and returns the size that it came to.
JEMALLOC_EXTENSIONS: Mapping[str, Signature] = {
    "mallocx": _allocate(1),
    "rallocx": _reallocate(1, 2),
    "xallocx": Signature(Kind.RESIZE, pointer=1, size=2),
    "dallocx": _FREE,
    "sdallocx": _FREE,
}
# What makes an object a C library's heap.
REQUIRED = frozenset({"malloc", "free"})

# Defined by glibc and by no allocator that takes its place: its blocks have glibc's headers.
GLIBC_ONLY = "gnu_get_libc_version"

# What tells a prefix: mallocx, and two of the others. The usual ones do without: a linker leaves out what is unused.
_SHAPE = 2
_JEMALLOC_PREFIXES = ("", "je_", "_rjem_")


def _mimalloc() -> dict[str, Signature]:
    plain = {
        **{name: _allocate(1) for name in ("malloc", "zalloc", "malloc_small", "zalloc_small", "valloc", "pvalloc")},
        "calloc": _allocate(2, 1),
        "mallocn": _allocate(2, 1),
        "realloc": _reallocate(1, 2),
        "rezalloc": _reallocate(1, 2),
        "reallocf": _reallocate(1, 2),
        "reallocn": _reallocate(1, 3, 2),
        "recalloc": _reallocate(1, 3, 2),
    }
    aligned = {
        f"{name}{suffix}": plain[name]
        for name in ("malloc", "zalloc", "calloc", "realloc", "rezalloc", "recalloc")
        for suffix in ("_aligned", "_aligned_at")
    }
    operators = {
        name: replace(signature, throws=True)
        for name, signature in {
            "new": _allocate(1),
            "new_n": _allocate(2, 1),
            "new_aligned": _allocate(1),
            "new_realloc": _reallocate(1, 2),
            "new_reallocn": _reallocate(1, 3, 2),
            "heap_alloc_new": _allocate(2),
            "heap_alloc_new_n": _allocate(3, 2),
        }.items()
    }
    # Each takes its memory by code that is inlined.
    copies = {
        f"{heap}{name}": Signature(Kind.ALLOCATE, copies_string=True)
        for name in ("strdup", "strndup", "mbsdup")
        for heap in ("", "heap_", "theap_")
    }
    # Of a heap of its own, which is the first argument ("theap" since version 3).
    heap = {
        f"{heap}_{name}": _moved(signature)
        for name, signature in {**plain, **aligned}.items()
        for heap in ("heap", "theap")
    }
    others = {
        **{name: _allocate(1) for name in ("new_nothrow", "new_aligned_nothrow")},
        **{name: _allocate(2) for name in ("memalign", "aligned_alloc")},
        "reallocarray": _reallocate(1, 3, 2),
        "aligned_recalloc": _reallocate(1, 3, 2),
        "aligned_offset_recalloc": _reallocate(1, 3, 2),
        "posix_memalign": C_HEAP["posix_memalign"],
        # mi_heap_delete moves the blocks to another heap.
        **dict.fromkeys(("heap_destroy", "theap_destroy"), Signature(Kind.DISCARD)),
        # Not mi_cfree: it frees by mi_free, and only what is mimalloc's.
        **dict.fromkeys(("free", "free_size", "free_size_aligned", "free_aligned", "free_small"), _FREE),
    }
    return {
        f"mi_{name}": signature
        for name, signature in {**plain, **aligned, **operators, **copies, **heap, **others}.items()
    }


def _moved(signature: Signature) -> Signature:
    """The same function with one more argument in front."""
    moved = {name: getattr(signature, name) and getattr(signature, name) + 1 for name in ("size", "count", "pointer")}
    return replace(signature, **moved)


def _tcmalloc() -> dict[str, Signature]:
    names = ("malloc", "calloc", "realloc", "memalign", "posix_memalign", "valloc", "pvalloc", "free", "cfree")
    return {
        **{f"tc_{name}": C_HEAP[name] for name in names},
        "tc_malloc_skip_new_handler": _allocate(1),
        "tc_free_sized": _FREE,
        **{
            f"tc_new{array}{aligned}{nothrow}": replace(_allocate(1), throws=not nothrow)
            for array, aligned, nothrow in itertools.product(("", "array"), ("", "_aligned"), ("", "_nothrow"))
        },
        **{
            f"tc_delete{array}{form}": _FREE
            for array in ("", "array")
            for form in ("", "_nothrow", "_sized", "_aligned", "_sized_aligned", "_aligned_nothrow")
        },
    }


# nothrow comes after the alignment, and LLVM's and tcmalloc's hint how often the block is used after both.
_ALIGNED, _NOTHROW, _HOT_COLD = "St11align_val_t", "RKSt9nothrow_t", "12__hot_cold_t"


def _operators() -> dict[str, Signature]:
    return {
        **{
            f"_Zn{array}m{aligned}{nothrow}{hint}": replace(_allocate(1), throws=not nothrow)
            for array, aligned, nothrow, hint in itertools.product(
                "wa", ("", _ALIGNED), ("", _NOTHROW), ("", _HOT_COLD)
            )
        },
        **{
            f"_Zd{array}Pv{form}": _FREE
            for array in "la"
            for form in ("", "m", _NOTHROW, _ALIGNED, f"m{_ALIGNED}", f"{_ALIGNED}{_NOTHROW}")
        },
    }


MIMALLOC: Mapping[str, Signature] = _mimalloc()
TCMALLOC: Mapping[str, Signature] = _tcmalloc()
OPERATORS: Mapping[str, Signature] = _operators()

# Every fixed name, and the ends of the names behind a prefix.
KNOWN: Mapping[str, Signature] = {
    **C_HEAP, **C_ALIASES, **JEMALLOC_EXTENSIONS, **MIMALLOC, **TCMALLOC, **OPERATORS,
}  # fmt: skip
FIXED_NAMES = frozenset({*MAPPINGS, *KNOWN, GLIBC_ONLY}) - C_ALIASES.keys()
_PREFIXED = {**C_HEAP, **JEMALLOC_EXTENSIONS}
PREFIXED_ENDS = tuple(_PREFIXED)


@dataclass(frozen=True)
class Family:
    """One allocator of one object: what it is called, and its functions there by name, the preferred name first."""

    name: str
    functions: Mapping[str, Signature]


def find_families(names: Collection[str]) -> tuple[Family, ...]:
    """The allocators that an object with these functions has in it.

    A family is there when one of its functions takes memory and one gives it back: a single name can be anything of a
    program's own. C++'s operators can be replaced one by one.
    """
    others = [Family(f"jemalloc ({prefix}*)", _jemalloc(prefix, names)) for prefix in _prefixes(names)]
    for name, table in (("mimalloc", MIMALLOC), ("tcmalloc", TCMALLOC)):
        if _serves(_present(table, names)):
            others.append(Family(name, _present(table, names)))
    c = _present({**C_HEAP, **MAPPINGS}, names) if set(names) >= REQUIRED else {}
    if GLIBC_ONLY in names and not others:
        c = {name: replace(signature, chunk_header=name in C_HEAP) for name, signature in c.items()}
    found = (Family("C", c), *others, Family("C++", _present(OPERATORS, names)))
    return tuple(family for family in found if family.functions)


def same_direction(one: Signature, other: Signature) -> bool:
    """True where both give memory back, or neither does."""
    return (one.kind is Kind.FREE) == (other.kind is Kind.FREE)


def _present(table: Mapping[str, Signature], names: Collection[str]) -> dict[str, Signature]:
    return {name: signature for name, signature in table.items() if name in names}


def _serves(functions: Mapping[str, Signature]) -> bool:
    kinds = {signature.kind for signature in functions.values()}
    return {Kind.ALLOCATE, Kind.FREE} <= kinds


def _jemalloc(prefix: str, names: Collection[str]) -> dict[str, Signature]:
    return _present({f"{prefix}{name}": signature for name, signature in _PREFIXED.items()}, names)


def _prefixes(names: Iterable[str]) -> list[str]:
    """The prefixes of jemalloc's names: the usual ones, and any that has its shape."""
    present = set(names)
    candidates = {name.removesuffix("mallocx") for name in present if name.endswith("mallocx")}
    others = JEMALLOC_EXTENSIONS.keys() - {"mallocx"}
    shaped = {prefix for prefix in candidates if sum(f"{prefix}{name}" in present for name in others) >= _SHAPE}
    known = {prefix for prefix in _JEMALLOC_PREFIXES[1:] if _serves(_jemalloc(prefix, present))}
    return sorted(shaped | known)
