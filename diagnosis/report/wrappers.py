"""Which frames are not the place to look: code that takes memory on behalf of its caller.

Three rules. By module: the C library, the C++ library, allocators and language runtimes are nobody's to change. By
source: what a standard library has in its headers is compiled into the program, and has no more than its bare name
there where it was put in line for a type of one file. By shape: a function that is named as a variant of malloc, or
that belongs to such a library, takes what its caller asked for. A frame without a name in a shared library of the
system's is passed over as well: its package has no symbols, and the function that called into the library has a name.
One in the program itself, or in a library of its own, is not: there an address can be looked up. Named functions of the
system's libraries are passed over only for a function of the program's that called into them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from diagnosis.target.start import START_FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnosis.target.symbols import Frame

# Names of shared objects up to their version: the C and C++ libraries, and allocators that are preloaded or linked.
_MODULES = re.compile(
    r"(ld-linux|ld-musl|libc\.so|libc-2\.|libc\.musl|libpthread|libm\.so|libdl\.|libstdc\+\+\.|libc\+\+|libgcc_s\."
    r"|lib(je|tc|mi|sn|hoard|rp)malloc|libtcmalloc|libmimalloc|libhoard|libgperf|libtbbmalloc|libdmalloc|libduma"
    r"|libglib-2|libapr-1|libtalloc)"
)

# malloc and its family with any prefix and suffix: xmalloc, g_malloc0, zcalloc, CRYPTO_malloc, je_malloc, av_mallocz,
# PyMem_RawMalloc, sqlite3MallocZero, __libc_calloc, git__realloc, kmem_alloc, safe_strdup, xasprintf, and PHP's
# _emalloc, pemalloc and _safe_femalloc.
_FAMILY = re.compile(
    r"(^|[_\d]|(?<=[a-z])(?=[A-Z])|^[a-z](try)?|(^|_)(safe|check|checked|must|my|our|do|try)|^_*(safe_)?[pf]?e)"
    r"(malloc|calloc|zalloc|realloc|reallocarray|memalign|memdup|strn?dup|v?asprintf|valloc)"
    r"(z|0|_?n|array|_?zero|_?array|_?aligned|_?safe|_?or_[a-z]+|_?fatal|_?trace|_?internal|_?impl|_?hook|_?usable|_?default|_?\d+)*$",
    re.IGNORECASE,
)

# A whole name that says no more than that memory is taken, and of which library: palloc, ckalloc, ngx_alloc, mem_alloc.
_ALLOC = re.compile(r"^_*([a-z]{1,2}_?|ngx_|(\w+_)?(mem|memory|heap|pool|arena)_?)alloc(_or_[a-z]+)?$", re.IGNORECASE)

# The allocators of runtimes and libraries, by the prefix that is theirs alone.
_PREFIXES = (
    "operator new",
    "operator delete",
    "std::",
    "__gnu_cxx::",
    # The same where a name could not be demangled: with newer clauses of the language in it, for one.
    "_ZSt",
    "_ZNSt",
    "_ZNKSt",
    "_ZNSa",
    "_ZNSs",
    "_ZN9__gnu_cxx",
    "_ZNK9__gnu_cxx",
    "__cxxabiv1::",
    "boost::container::",
    "boost::make_shared",
    "boost::allocate_shared",
    "<alloc::",
    "<core::",
    "hashbrown::",
    "__rust_",
    "__rustc::",
    "__rdl_",
    "__rg_",
    "PyMem_",
    "_PyObject_New",
    "_PyObject_GC_New",
    "PyType_GenericAlloc",
    "_PyType_AllocNoTrack",
    "PyObject_Malloc",
    "PyObject_Calloc",
    "PyObject_Realloc",
    "_PyObject_Malloc",
    "_PyMem_",
    "g_slice_",
    "apr_palloc",
    "apr_pcalloc",
    "talloc_",
    "_talloc",
    # PostgreSQL's memory contexts, MariaDB's and MySQL's roots, the Boehm collector, OCaml's runtime.
    "MemoryContextAlloc",
    "MemoryContextStr",
    "AllocSet",
    "alloc_root",
    "init_alloc_root",
    "GC_",
    "caml_alloc",
    # Go's runtime, and what takes a call between Go and C.
    "runtime.",
    "_cgo_",
    "x_cgo_",
    "_cgoexp_",
    "__libc_",
    "__GI_",
    "_int_",
)
_NAMES = frozenset(
    {
        "aligned_alloc", "mmap", "mmap64", "__mmap", "mremap", "sysmalloc", "sbrk", "brk", "morecore", "arena_get2",
        "memset", "memcpy", "memmove", "bzero", "fopen", "fopen64", "fdopen", "opendir", "getline", "getdelim",
        "open_memstream", "tmpfile", "regcomp", "getaddrinfo", "pthread_create",
        "g_memdup", "g_memdup2", "g_strdup", "g_strndup", "g_strdupv", "g_strdup_printf", "g_strdup_vprintf",
        "g_strdup_inline", "g_strconcat", "g_new", "g_new0",
        "palloc", "palloc0", "palloc_extended", "palloc_aligned", "palloc0fast", "repalloc", "repalloc0", "pstrdup",
        "pnstrdup", "ngx_palloc", "ngx_pnalloc", "ngx_palloc_small", "ngx_palloc_large", "ngx_palloc_block",
        "event_mm_malloc_", "event_mm_calloc_", "event_mm_strdup_", "event_mm_realloc_", "AllocateHeap",
        "QArrayData::allocate", "zend_string_alloc", "sdsnewlen", "sdsMakeRoomFor",
    }
)  # fmt: skip

# The headers of C++'s standard libraries and Boost's of containers, and the sources of Rust's.
_LIBRARY_SOURCES = re.compile(
    r"/include/c\+\+/|/c\+\+/v\d+/|/boost/(container|smart_ptr|unordered)/|/rustc/[0-9a-f]+/library/|/rustlib/src/rust/library/"
)

# Functions of a class that are allocators' own: Order::operator new(unsigned long), Pool<int>::allocate(unsigned long).
_NEW = re.compile(r"::operator new(\[\])?($|\()")
_ALLOCATES = re.compile(r"(^|_)(de)?allocate(_\w+)?$")
_ALLOCATOR_CLASS = re.compile(r"alloc|pool|arena|tracking|memory|resource", re.IGNORECASE)

# A method can be called as one of C's functions and do its own work: Table::realloc(int) makes its table larger. One
# that gets no address takes nothing for its caller.
_OWN_REALLOC = re.compile(r"::(re(c)?alloc(array)?)\((?![^)]*\*)")

# What cgo makes for each function of C that a package calls: main._Cfunc_CString.abi0.
_CALLS_C = re.compile(r"[^.()]\._(Cfunc|cgo)_")
_SWITCHES_TO_C = ("runtime.asmcgocall", "runtime.cgocall", "_cgo_", "_cgoexp_", "crosscall2")

# What calls into libraries because a program has to begin somewhere.
_STARTS = START_FUNCTIONS | {"clone", "__clone3", ""}

# What calls C for Python's ctypes and cffi.
_FOREIGN_CALLS = re.compile(r"libffi[.-]")

# Parts of a function that compilers put elsewhere, or specialise: xmalloc.cold, zmalloc.part.0, ssl_new.isra.0, and
# Rust's RawTable<T,A>::reserve_rehash (.llvm.1625457062179553913).
_CLONE = re.compile(
    r"(\.(cold|part|isra|constprop|lto_priv|llvm|localalias)(\.\d+)?|\.\d+| \[clone [^]]*\]| \(\.\w+(\.\w+)*\))+$"
)

# A frame of Rust's libraries can be a trait's function for a type of the program: <shop::Order as core::clone::Clone>.
# A type that names no other crate is the library's: T, u64, (u64, alloc::string::String).
_RUST_TRAIT = re.compile(r"^<(?P<type>.+?) as (core|alloc|std)::")
_RUST_LIBRARIES = ("alloc::", "core::", "std::", "hashbrown::")
_RUST_CRATE = re.compile(r"(?<![\w:])\w+::")

# C++'s names end so, Rust's do not.
_PARAMETERS = re.compile(r"\)( const)?( volatile)?( &{1,2})?( noexcept)?$")

# What makes a type of anybody's the program's allocator.
_RUST_ALLOCATOR = " as core::alloc::"


def takes_for_its_caller(frame: Frame) -> bool:
    """True where a frame belongs to an allocator, a standard library or a wrapper of malloc."""
    if _MODULES.match(frame.module) or _LIBRARY_SOURCES.search(frame.file):
        return True
    return is_for_its_caller(frame.function) if frame.function else frame.packaged


def is_for_its_caller(function: str) -> bool:
    """The same by the function's name alone."""
    name = _CLONE.sub("", function)
    if trait := _RUST_TRAIT.match(name):
        if _RUST_ALLOCATOR in name:
            return True
        type_ = trait["type"]
        return type_.startswith((*_RUST_LIBRARIES, "&", "[")) or set(_RUST_CRATE.findall(type_)) <= {*_RUST_LIBRARIES}
    bare = _without_return_type(name)
    whole, is_method = bare.partition("(")[0], "::" in bare
    # Rust's names have no parameters; a program of C++ can have a namespace of its own that is called core.
    if bare.startswith(_RUST_LIBRARIES) and not _PARAMETERS.search(bare):
        return True
    if whole in _NAMES or bare.startswith(_PREFIXES) or _NEW.search(name) or _CALLS_C.search(bare):
        return True
    last = _last_part(bare)
    if is_method and _ALLOCATES.search(last):
        return bool(_ALLOCATOR_CLASS.search(bare.rpartition(last)[0]))
    return bool(_FAMILY.search(last) or _ALLOC.match(last)) and not _OWN_REALLOC.search(bare)


def runs_for_python(frame: Frame) -> bool:
    """True where a frame belongs to Python's interpreter, or to the library by which it calls C."""
    return frame.interpreter or bool(_FOREIGN_CALLS.match(frame.module))


def runs_for_go(frame: Frame) -> bool:
    """True where a frame is between Go and C: of two functions of Go that call one of C, each is a caller."""
    return frame.function.startswith(_SWITCHES_TO_C) or bool(_CALLS_C.search(frame.function))


def first_own(frames: Sequence[Frame]) -> int:
    """Where in a stack, innermost first, the code begins that somebody can change; 0 where there is none such.

    Where Python functions are named, the interpreter itself takes memory on their behalf. A library of the system's
    takes it for the function that called into it; where only the program's start did, the program is made of such.
    """
    runs_python = any(frame.python for frame in frames)
    own = [
        i
        for i, frame in enumerate(frames)
        if not (runs_python and runs_for_python(frame)) and (frame.python or not takes_for_its_caller(frame))
    ]
    if not own or frames[own[0]].function == "_start":
        return 0  # a program that begins without a function of its own has nothing that can be changed
    first_outside = next((i for i in own if not frames[i].packaged), own[0])
    return own[0] if frames[first_outside].function in _STARTS else first_outside


def _last_part(name: str) -> str:
    """The function's own name, without its class, its parameters and its template's arguments."""
    kept, depth = "", 0
    for letter in name:
        if letter == "(" and not depth and kept:
            break
        depth += (letter in "<(") - (letter in ">)")
        if not depth and letter not in ">)":
            kept += letter
    return kept.rpartition("::")[2]


def _without_return_type(name: str) -> str:
    """A template's demangled name begins with its return type: ``void std::vector<int>::push_back(...)``."""
    depth = 0
    for i, letter in enumerate(name):
        if letter in "<(":
            depth += 1
        elif letter in ">)":
            depth -= 1
        elif letter == " " and depth == 0:
            rest = name[i + 1 :]
            return rest if rest and not name.startswith(("operator", "<")) and "(" in rest else name
    return name
