from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.programs import compile_c
from tests.tool.tracing import BUSY, KEEPER

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def busy(folder: Path) -> Path:
    return compile_c(BUSY, folder / "busy", "-O2")


@pytest.fixture(scope="module")
def keeper(folder: Path) -> Path:
    return compile_c(KEEPER, folder / "keeper", "-O2")
