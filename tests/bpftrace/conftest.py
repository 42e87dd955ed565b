"""native/bpftrace is a folder to copy to where a process runs: its modules find each other by name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "native/bpftrace"
sys.path.append(str(FOLDER))

# Frames as in native/leak: each caller of the allocator has one, and no call becomes a jump.
FLAGS = (
    "-O2",
    "-g",
    "-pthread",
    "-fno-omit-frame-pointer",
    "-fno-optimize-sibling-calls",
    "-Wall",
    "-Wextra",
    "-Werror",
)


@pytest.fixture(scope="session")
def every_call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that calls every function of the allocator."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("needs a C compiler: apt-get install gcc")
    program = tmp_path_factory.mktemp("every_call") / "every_call"
    subprocess.run([compiler, *FLAGS, str(Path(__file__).with_name("every_call.c")), "-o", str(program)], check=True)
    return program
