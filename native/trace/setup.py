"""Compiles the eBPF program with clang beside the binding: setuptools knows no language whose target is the kernel."""

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


class BuildWithProgram(build_py):
    """Adds ``heap_trace.bpf.o`` to the package."""

    def run(self) -> None:
        """Copy the package, then compile the program into it."""
        super().run()
        machine = platform.machine()
        if machine not in ARCHITECTURES:
            sys.exit(f"heap_trace: no eBPF program for {machine}: it is written for {', '.join(ARCHITECTURES)}")
        clang = shutil.which("clang")
        if not clang:
            sys.exit("heap_trace: clang is missing: apt-get install clang libbpf-dev")
        output = Path(self.build_lib, "heap_trace", "heap_trace.bpf.o")
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
                f"-D__TARGET_ARCH_{ARCHITECTURES[machine]}",
                # Debian and Ubuntu keep asm/ per architecture, where clang does not look for this target.
                f"-I/usr/include/{sysconfig.get_config_var('MULTIARCH') or machine + '-linux-gnu'}",
                f"-I{SOURCES}",
                "-c",
                str(SOURCES / "heap_trace.bpf.c"),
                "-o",
                str(output),
            ],
            check=True,
        )


setup(cffi_modules=["build_heap_trace.py:ffi"], cmdclass={"build_py": BuildWithProgram})
