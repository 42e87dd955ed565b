from __future__ import annotations

import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.hostile.programs import MAPPER, PLUGIN_HOST, TRAMPOLINE
from tests.hostile.running import MAX_BYTES
from tests.support.programs import compile_c

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="module")
def _largest() -> Iterator[None]:
    """GIVEN everything that ran here THEN no process of it was ever larger than the limit."""
    yield
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < MAX_BYTES


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that programs of other users can enter: pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="module")
def mapper(folder: Path) -> Path:
    return compile_c(MAPPER, folder / "mapper")


@pytest.fixture(scope="module")
def plugin_host(folder: Path) -> Path:
    return compile_c(PLUGIN_HOST, folder / "host")


@pytest.fixture(scope="module")
def trampoline(folder: Path) -> Path:
    """A library whose one function calls back: its code is in every stack."""
    return compile_c(TRAMPOLINE, folder / "libtrampoline.so", "-g", "-shared", "-fPIC", "-gz=none")
