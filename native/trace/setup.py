"""Compiles the eBPF programs with clang beside the binding: setuptools knows no language whose target is the kernel."""

import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SOURCES = Path("src")

# The kernel's names for the architectures that this program has been written for.
ARCHITECTURES = {"x86_64": "x86", "aarch64": "arm64"}


PROGRAMS = ("heap_trace", "page_faults", "forks")


class BuildWithPrograms(build_py):
    """Adds the compiled eBPF programs to the package."""

    def run(self) -> None:
        """Copy the package, then compile the programs into it."""
        super().run()
        machine = platform.machine()
        if machine not in ARCHITECTURES:
            sys.exit(f"heap_trace: no eBPF program for {machine}: it is written for {', '.join(ARCHITECTURES)}")
        clang = shutil.which("clang")
        if not clang:
            sys.exit("heap_trace: clang is missing: apt-get install clang libbpf-dev")
        for name in PROGRAMS:
            compile_program(clang, name, ARCHITECTURES[machine], Path(self.build_lib, "heap_trace"))


def compile_program(clang: str, name: str, architecture: str, folder: Path) -> None:
    """Compile ``name.bpf.c`` to ``name.bpf.o`` in ``folder``."""
    include = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"
    subprocess.run(
        [
            clang,
            "-target",
            "bpf",
            "-mcpu=v3",
            "-O2",
            "-g",  # the maps' layout is read from BTF
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-ffile-prefix-map={Path.cwd()}=.",
            f"-D__TARGET_ARCH_{architecture}",
            # Debian and Ubuntu keep asm/ per architecture, where clang does not look for this target.
            f"-I/usr/include/{include}",
            f"-I{SOURCES}",
            "-c",
            str(SOURCES / f"{name}.bpf.c"),
            "-o",
            str(folder / f"{name}.bpf.o"),
        ],
        check=True,
    )


setup(cffi_modules=["build_heap_trace.py:ffi"], cmdclass={"build_py": BuildWithPrograms})
