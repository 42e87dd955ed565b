"""The eBPF programs for arm64: there is no such machine here, but a compiler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from diagnosis.lab.child import PROJECT

SOURCES = Path(PROJECT, "native/trace/src")
HEADERS = Path("/usr/aarch64-linux-gnu/include")

pytestmark = pytest.mark.skipif(
    not (HEADERS / "asm/ptrace.h").exists(), reason="apt-get install linux-libc-dev-arm64-cross"
)


@pytest.mark.parametrize("source", sorted(SOURCES.glob("*.bpf.c")), ids=lambda source: source.name)
def test_a_program_compiles_without_a_warning(source: Path, tmp_path: Path) -> None:
    clang = shutil.which("clang")
    assert clang
    flags = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-D__TARGET_ARCH_arm64"]
    compiled = tmp_path / "program.o"
    subprocess.run([clang, *flags, f"-I{HEADERS}", f"-I{SOURCES}", "-c", source, "-o", compiled], check=True)
    assert compiled.stat().st_size
