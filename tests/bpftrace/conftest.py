"""native/bpftrace is a folder to copy to where a process runs: its modules find each other by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.every_call.program import compile_every_call

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "native/bpftrace"
sys.path.append(str(FOLDER))


@pytest.fixture(scope="session")
def every_call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that calls every function of the allocator."""
    return compile_every_call(tmp_path_factory.mktemp("every_call"))
