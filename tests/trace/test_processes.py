"""Children of the traced process: their memory is not its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.trace.tracing import Row

if TYPE_CHECKING:
    from tests.trace.conftest import Trace

pytestmark = pytest.mark.ebpf


def test_children_of_fork_vfork_and_posix_spawn(trace: Trace) -> None:
    """A child's blocks, and what it does to its copies of its parent's, are its own."""
    counted = trace("children.c")
    assert counted.own == {"parent_takes": Row(5, 2, 1500)}
    assert counted.lost == {}
