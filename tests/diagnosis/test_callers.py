"""A function that leaks by many callers is named itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from diagnosis.report.history import Takes, together
from diagnosis.report.site import CallSite
from diagnosis.report.verdict import Answer, find
from tests.diagnosis.windows import KIB, MIB, READINGS, STEADY, WINDOW, site, window

if TYPE_CHECKING:
    from diagnosis.report.history import SiteHistory
    from diagnosis.report.verdict import Finding


def called(by: str, size: int, function: str = "keep_row") -> SiteHistory:
    """Steady growth to so many bytes."""
    grown = site(*(size * i / (READINGS - 1) for i in range(READINGS)), function=function)
    return replace(grown, site=CallSite(function, by))


def found(*sites: SiteHistory) -> Finding:
    return find(window(*sites))


@pytest.mark.parametrize("size", [30 * KIB, 300 * KIB])
def test_callers_of_which_none_has_half_are_one_leak(size: int) -> None:
    finding = found(*(called(f"handler_{i}", size) for i in range(40)))
    (judged,) = finding.judged
    assert finding.answer is Answer.LEAK
    assert judged.site.site == CallSite("keep_row", "")
    assert judged.site.growth == 40 * size
    assert judged.site.allocations == 40_000


def test_a_caller_that_has_half_is_named() -> None:
    finding = found(called("import_all", 4 * MIB), called("serve", MIB), called("test", 32 * KIB))
    assert [each.site.site.caller for each in finding.judged] == ["import_all", "serve"]


def test_functions_are_not_put_together_nor_blocks_with_mappings() -> None:
    one, other = called("serve", 30 * KIB), called("serve", 40 * KIB, "parse")
    assert found(one, other).answer is Answer.NO_LEAK
    mapped = replace(called("main", 40 * KIB), takes=Takes.MAPPINGS)
    assert found(one, mapped).answer is Answer.NO_LEAK


def test_callers_that_are_no_leak_together_stay_as_they_are() -> None:
    """The buffers of many workers that found their size at first."""
    ended = [replace(called(f"w_{i}", 1), outstanding=(0, *(50 * KIB,) * (READINGS - 1))) for i in range(9)]
    assert found(*ended).answer is Answer.NO_LEAK


def test_the_sites_of_a_function_are_added_up() -> None:
    one = replace(STEADY, older_frees=3, late_allocations=5, resident_bytes=7, replaced=11, first_bytes=13)
    both = together([replace(one, fresh_bytes=(1, 2, 3)), replace(one, oldest_seconds=9.0, fresh_bytes=(4, 5, 6))])
    assert both.outstanding == tuple(2 * each for each in STEADY.outstanding)
    assert (both.older_frees, both.late_allocations, both.resident_bytes, both.replaced) == (6, 10, 14, 22)
    assert (both.first_bytes, both.kept_bytes, both.fresh_bytes) == (26, 2 * one.kept_bytes, (5, 7, 9))
    assert both.oldest_seconds == WINDOW
