"""The gadget, compiled once, and the rows that it reports."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from comparison.tools.gadget import build, cannot_build
from comparison.tools.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

PROBES = 19
SETTLE_SECONDS = 2.5


@pytest.fixture(scope="session")
def loader(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The loader and the gadget's object."""
    if reason := cannot_build():
        pytest.skip(f"the gadget cannot be built: {reason}")
    return build(tmp_path_factory.mktemp("gadget"))


class Counting:
    """A running gadget."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def rows(self) -> list[dict[str, Any]]:
        """What it reports in the end."""
        return self.readings()[-1]

    def so_far(self) -> list[list[dict[str, Any]]]:
        """The readings until now."""
        text = os.pread(self._session._output.fileno(), 1 << 28, 0).decode()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def readings(self) -> list[list[dict[str, Any]]]:
        """What it has reported, a reading a second, to the end."""
        return [json.loads(line) for line in self._session.finish(SETTLE_SECONDS).splitlines()]


@pytest.fixture
def counting(loader: tuple[Path, Path]) -> Callable[..., AbstractContextManager[Counting]]:
    """The gadget on a process, with its probes attached."""

    @contextmanager
    def count(pid: int, *options: str) -> Iterator[Counting]:
        program, compiled = map(str, loader)
        with Session([program, *options, compiled, str(pid)], {}) as session:
            session.wait_until_attached(PROBES)
            yield Counting(session)

    return count
