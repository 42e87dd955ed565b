"""The tests' own settings: one that hangs is one failure, and the others still run."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from scripts.imports import ROOT
from tests.support.waiting import LIMIT_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

HANGING = """
import threading
import time

import pytest

@pytest.fixture
def never():
    threading.Event().wait()

@pytest.mark.timeout(0.5)
def test_that_hangs():
    threading.Event().wait()

@pytest.mark.timeout(0.5)
def test_whose_fixture_hangs(never):
    pass

def test_after_it():
    pass
"""


def test_a_test_over_its_limit_fails_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_hanging.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed, 1 error" in done.stdout
