"""Packaged software at work: its stacks are whole, as the tracer itself says of each one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from comparison.loops.packaged import FROM_START, PACKAGED, missing
from comparison.loops.stacks import measure

if TYPE_CHECKING:
    from comparison.loops.packaged import Packaged

pytestmark = [pytest.mark.root, pytest.mark.ebpf]

SHARE = 0.999
FEWEST_ALLOCATIONS = 4000

# How many stacks of the other one are whole is a matter of how fast this machine reads tables.
RUNNING = [each for each in PACKAGED if each is not FROM_START]


@pytest.mark.parametrize("packaged", RUNNING, ids=lambda each: each.package)
def test_stacks_are_whole(packaged: Packaged) -> None:
    if reason := missing(packaged):
        pytest.skip(reason)

    found = measure(packaged)

    assert sum(found.allocations.values()) >= FEWEST_ALLOCATIONS
    assert found.whole_allocations > SHARE, found.others
    assert found.whole_stacks > SHARE, found.stacks
    assert not found.lost
