"""Compiles the catalog cache and its cffi API-mode binding into one extension module."""

import re
from pathlib import Path

from cffi import FFI

# setuptools runs this file by name from this folder, without __file__ on some versions.
SOURCES = Path("src")

# The C interface, once: what Python may call is the header without its preprocessor lines, but for its numbers.
DECLARATIONS = "\n".join(
    line
    for line in (SOURCES / "catalog_cache.h").read_text().splitlines()
    if not line.startswith("#") or re.match(r"#define \w+ \d+$", line)
)

# What keeps `catalog_cache_insert <- catalog_cache_refresh <- catalog_cache_worker` on the stack for every tool that
# unwinds by frame pointers, and its names, files and lines in the object. They come after the interpreter's own
# CFLAGS, which on most builds leave frame pointers out.
COMPILE_ARGS = [
    "-std=gnu17",
    "-O2",
    "-g",
    "-fno-omit-frame-pointer",
    "-mno-omit-leaf-frame-pointer",
    "-fno-optimize-sibling-calls",
    "-fno-lto",
    # The path of the build machine stays out of the debug information.
    f"-ffile-prefix-map={Path.cwd()}=.",
]
LINK_ARGS = ["-Wl,--build-id=sha1", "-pthread"]

ffi = FFI()
ffi.cdef(DECLARATIONS)
ffi.set_source(
    "catalog_cache._catalog_cache",
    '#include "catalog_cache.h"',
    sources=[str(SOURCES / "catalog_cache.c")],
    include_dirs=[str(SOURCES)],
    extra_compile_args=COMPILE_ARGS,
    extra_link_args=LINK_ARGS,
)
