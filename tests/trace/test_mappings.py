"""mmap, mremap and munmap, whole and in part. A mapping is given back when its last page is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.trace.tracing import Row

if TYPE_CHECKING:
    from tests.trace.conftest import Trace

pytestmark = pytest.mark.ebpf

PAGE = 4096


def test_mmap_mremap_and_munmap(trace: Trace) -> None:
    counted = trace("mappings.c")
    assert counted.table == {
        "whole_kept": Row(1, 0, 3 * PAGE),
        "odd_length": Row(1, 0, 2 * PAGE),
        "whole_unmapped": Row(2, 2, 0),
        "head_unmapped": Row(1, 0, 3 * PAGE),
        "tail_unmapped": Row(1, 0, 2 * PAGE),
        "middle_unmapped": Row(1, 0, 5 * PAGE),
        "unmapped_piecemeal": Row(1, 1, 0),
        "unmap_fails": Row(1, 0, 2 * PAGE),
        "maps_shared": Row(1, 0, 2 * PAGE),
        "old_grown": Row(1, 0, 2 * PAGE),
        "grows": Row(1, 0, 62 * PAGE),
        "old_shrunk": Row(1, 0, 3 * PAGE),
        "old_moved": Row(1, 0, 2 * PAGE),
        "old_fails": Row(1, 0, 2 * PAGE),
        "old_left_behind": Row(1, 0, 2 * PAGE),
        "leaves_behind": Row(1, 0, 2 * PAGE),
        "reserve": Row(1, 0, 2 * PAGE),
        "fixed_over_reserve": Row(3, 2, PAGE),
        "replaced": Row(1, 1, 0),
        "fixed_over_all": Row(1, 0, 4 * PAGE),
        "fixed_over_reservation": Row(1, 0, 2 * PAGE),
        "given_back_by_reserving": Row(1, 1, 0),
        "torn": Row(1, 0, 3 * PAGE),
    }
    assert counted.lost == {}
