"""A folder for each command, and the adoption of what it leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.command import Command, adopt_orphans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Protocol

    class MemleakLab(Protocol):
        """`memleak_lab("run --speed 600")`."""

        def __call__(self, arguments: str) -> Command: ...


@pytest.fixture(autouse=True)
def _orphans() -> Iterator[None]:
    adopt_orphans(adopt=True)
    yield
    adopt_orphans(adopt=False)


@pytest.fixture
def memleak_lab(tmp_path: Path) -> MemleakLab:
    """The command, in an empty folder that is also its home and where it puts temporary files."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return lambda arguments: Command(folder, tuple(arguments.split()))
