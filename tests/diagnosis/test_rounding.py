from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import replace

import pytest

from diagnosis.report.rounding import GLIBC, OTHERS, blocks_of, rounded_by_class, size_class
from diagnosis.target.allocator import find_allocators
from diagnosis.target.process import Process
from diagnosis.trace.counts import Counts


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_glibc_s_usable_sizes_are_those_of_this_machine() -> None:
    """By name: in this process something else may be preloaded."""
    libc = ctypes.CDLL("libc.so.6")
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = (ctypes.c_size_t,)
    libc.free.argtypes = libc.malloc_usable_size.argtypes = (ctypes.c_void_p,)
    for size in (0, 1, 23, 24, 25, 33, 40, 41, 100, 8000, 60_000):
        # One block can be larger: where what is left of a free one is too little for a block, it gets all of it.
        blocks = [libc.malloc(size) for _ in range(20)]
        assert min(map(libc.malloc_usable_size, blocks)) == GLIBC.usable(size)
        for block in blocks:
            libc.free(block)


def test_classes_of_other_allocators_are_an_eighth_to_a_quarter_apart() -> None:
    asked = (1, 16, 17, 128, 129, 160, 161, 5000, 5121)
    assert [OTHERS.usable(size) for size in asked] == [16, 16, 32, 128, 160, 160, 192, 5120, 6144]


def test_blocks_of_several_sizes_are_rounded_up_by_half_a_step() -> None:
    assert GLIBC.rounded(100, 100 * 33) == 7
    assert GLIBC.rounded(100, 100 * 33 + 1) == 7.5
    assert GLIBC.rounded(100, 101) == pytest.approx(22.99), "24 bytes at the least"


def test_what_is_older_was_asked_for_like_what_is_new() -> None:
    taken = [Counts(300, 300 * 33), Counts(100, 100 * 40), Counts(1, 8000), Counts()]
    assert rounded_by_class(GLIBC, taken) == {size_class(40): 300 * 7 / 400, size_class(8008): 8}


def test_the_layout_is_glibc_s_where_no_other_allocator_is() -> None:
    found = find_allocators(Process(os.getpid()))[:1]  # the C library's
    assert blocks_of(found) is GLIBC
    assert blocks_of([*found, replace(found[0], families=("jemalloc (je_*)",))]) is OTHERS
    assert blocks_of(()) is OTHERS
