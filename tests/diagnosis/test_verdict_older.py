"""Frees of older blocks that can be those of a site, and what they leave of a leak."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from diagnosis.report.verdict import Answer, Doubt, find
from tests.diagnosis.windows import MIB, READINGS, answer, doubt, site, window


def test_one_growth_of_the_heap_does_not_make_leaks_of_an_equilibrium_and_of_a_leak() -> None:
    """Sessions of many sizes: only those of their mean one are set against old blocks. Alone the live heap is flat."""
    shape = [MIB * i for i in range(READINGS)]
    leak = site(*(0.9 * MIB * i for i in range(READINGS)), function="decode", unshared_bytes=22 * MIB)
    beside: dict[str, Any] = {"live": leak.outstanding, "memory": leak.outstanding}
    kinds: tuple[dict[str, Any], ...] = ({"older_frees": 120}, {"of_several_sizes": True})
    for of_many_sizes in kinds:
        sessions = site(*shape, function="session", unshared_bytes=22 * MIB, **of_many_sizes)
        found = find(window(sessions, leak, **beside))
        assert [(each.site.site.function, each.doubt) for each in found.judged] == [
            ("decode", None),
            ("session", Doubt.OTHER_SIZES),
        ]
        others = replace(sessions, unshared_bytes=11 * MIB)
        assert find(window(others, leak, **beside)).judged[0].site is others


def test_older_blocks_of_unknown_size_can_be_those_of_a_site_that_takes_as_many() -> None:
    """jemalloc and its like: what was freed early was on its way when the window began."""
    keeps = site(*(MIB * i for i in range(READINGS)), allocations=1000, frees=0)
    assert doubt(keeps, live_known=False, late_unsized=500) is Doubt.UNSIZED
    assert answer(keeps, live_known=False, late_unsized=499) is Answer.LEAK
    assert answer(keeps, live_known=True, late_unsized=500) is Answer.LEAK
