"""Which tests trace side by side, and which alone."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.turns import turn
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


class Waiting(threading.Thread):
    """Holds a turn, once it has it, until it is let go."""

    def __init__(self, files: tuple[Path, Path], *, alone: bool) -> None:
        super().__init__(daemon=True)
        self._files, self._alone = files, alone
        self.has_it, self.let_go = threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with turn(alone=self._alone, files=self._files):
            self.has_it.set()
            self.let_go.wait(60)

    def still_waits(self) -> bool:
        return not self.has_it.wait(0.2)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    found = tmp_path / "gate", tmp_path / "room"
    for path in found:
        path.touch()
    return found


def test_many_have_a_turn_and_one_that_is_alone_waits_for_them_and_is_waited_for(files: tuple[Path, Path]) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(turn(files=files))
        alone = Waiting(files, alone=True)
        assert alone.still_waits()
        late = Waiting(files, alone=False)
        assert late.still_waits(), "who comes later does not keep it waiting"
    wait_until(alone.has_it.is_set, "it is alone")
    assert late.still_waits()
    alone.let_go.set()
    wait_until(late.has_it.is_set, "the next one has its turn")
    late.let_go.set()
    for thread in (alone, late):
        thread.join(60)


def test_a_turn_ends_with_its_test_whatever_became_of_it(files: tuple[Path, Path]) -> None:
    with pytest.raises(ZeroDivisionError), turn(alone=True, files=files):
        raise ZeroDivisionError
    with turn(files=files):
        pass
