"""Compiles the loader and its cffi API-mode binding into one extension module, linked with libbpf."""

import re
from pathlib import Path

from cffi import FFI

SOURCES = Path("src")


def declarations(header: str) -> str:
    """What Python may see of a C header: cffi reads C without a preprocessor, and numbers from #define lines."""
    text = re.sub(r"/\*.*?\*/", "", (SOURCES / header).read_text(), flags=re.DOTALL)
    kept = [line for line in text.splitlines() if not line.startswith("#") or re.match(r"#define \w+ \d+$", line)]
    return "\n".join(kept)


ffi = FFI()
ffi.cdef(declarations("heap_trace.h"))
ffi.cdef(declarations("loader.h"))
ffi.set_source(
    "heap_trace._heap_trace",
    '#include "heap_trace.h"\n#include "loader.h"',
    sources=[str(SOURCES / "loader.c")],
    include_dirs=[str(SOURCES)],
    libraries=["bpf"],
    extra_compile_args=["-std=gnu17", "-O2", "-g", "-Wall", f"-ffile-prefix-map={Path.cwd()}=."],
)
