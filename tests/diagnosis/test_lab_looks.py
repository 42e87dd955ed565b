"""The lab looks at its service while it waits: where the service answers late, the trace comes first."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, cast

import pytest

from diagnosis.base.errors import LabError
from diagnosis.lab.run import LOOK_SECONDS, RunOptions, _Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis.lab.child import Child
    from diagnosis.lab.claims import Claims
    from diagnosis.lab.view import View

PAUSE_SECONDS = LOOK_SECONDS
OPTIONS = RunOptions(speed=1, duration_seconds=60, window_seconds=1, chunk_bytes=1 << 20, cap_bytes=0)


class OwnProcess:
    """A service that is this process, and listens nowhere."""

    pid = os.getpid()

    def first_event(self) -> dict[str, object]:
        """Where it would listen."""
        return dict.fromkeys(("http", "metrics", "ledger"), "127.0.0.1:1")

    def check(self) -> None:
        """It runs."""


@pytest.fixture
def lab() -> Iterator[_Lab]:
    lab = _Lab(OPTIONS, cast("Child", OwnProcess()), cast("View", None))
    yield lab
    lab.close()


def test_a_look_without_an_answer_is_not_repeated_while_there_is_no_time_for_it(
    lab: _Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def answer_late() -> Claims:
        looks.append(time.monotonic())
        time.sleep(1.5 * PAUSE_SECONDS)
        raise LabError("timed out", "wait")

    monkeypatch.setattr(lab.claims, "read", answer_late)
    for _ in range(4):
        assert lab.pause(PAUSE_SECONDS)
    assert len(looks) == 1
