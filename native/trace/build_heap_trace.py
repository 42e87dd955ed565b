"""Compiles the loaders and their cffi API-mode binding into one extension module, linked with libbpf."""

import re
from pathlib import Path

from cffi import FFI

SOURCES = Path("src")


def declarations(header: str) -> str:
    """What Python may see of a C header: cffi reads C without a preprocessor, and numbers from #define lines."""
    text = re.sub(r"/\*.*?\*/", "", (SOURCES / header).read_text(), flags=re.DOTALL)
    kept = [line for line in text.splitlines() if not line.startswith("#") or re.match(r"#define \w+ \d+$", line)]
    return "\n".join(kept)


HEADERS = (
    "heap_trace",
    "python_frames",
    "unwind",
    "unwind_tables",
    "unwind_loader",
    "loader",
    "page_faults",
    "page_faults_loader",
    "forks",
    "forks_loader",
    "support",
)
C_SOURCES = (
    "attach",
    "loader",
    "readings",
    "reset",
    "page_faults_loader",
    "forks_loader",
    "support",
    "unwind_loader",
    "unwind_rows",
    "unwind_rules",
    "unwind_tables",
    "unwind_text",
)

ffi = FFI()
ffi.cdef(declarations("heap_trace.h"))
ffi.cdef(declarations("python_frames.h"))
ffi.cdef(declarations("unwind.h"))
ffi.cdef(declarations("unwind_tables.h"))
ffi.cdef(declarations("unwind_loader.h"))
ffi.cdef(declarations("page_faults.h"))
ffi.cdef("const char *trace_error(void);")
ffi.cdef(declarations("loader.h"))
ffi.cdef(declarations("page_faults_loader.h"))
ffi.cdef(declarations("forks.h"))
ffi.cdef(declarations("forks_loader.h"))
ffi.set_source(
    "heap_trace._heap_trace",
    "\n".join(f'#include "{header}.h"' for header in HEADERS),
    sources=[str(SOURCES / f"{name}.c") for name in C_SOURCES],
    include_dirs=[str(SOURCES)],
    libraries=["bpf"],
    extra_compile_args=["-std=gnu17", "-O2", "-g", "-Wall", f"-ffile-prefix-map={Path.cwd()}=."],
)
