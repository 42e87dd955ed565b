"""The live heap that grows while no call site does by itself."""

from __future__ import annotations

from dataclasses import replace

from diagnosis.report.summary import summarize
from diagnosis.report.verdict import Answer, find
from tests.diagnosis.windows import KIB, READINGS, STEADY, answer, site, window

# Churn to which another one's older blocks were given, and the leak that paid for it: together they grow evenly.
RISEN = [min(i, 4) * 70 * KIB for i in range(READINGS)]
CHURN = site(*RISEN, function="churn", allocations=130_000, frees=111_000, older_frees=18_000, late_allocations=65_000)
LEAK = site(*(20 * KIB * i - each for i, each in enumerate(RISEN)), function="audit", allocations=1851, frees=0)
LEAK = replace(LEAK, outstanding=(*LEAK.outstanding[:-1], 0))
LIVE = tuple(20 * KIB * i for i in range(READINGS))


def test_a_heap_that_grows_without_a_site_is_growing() -> None:
    evidence = window(CHURN, LEAK, live=LIVE, memory=LIVE, older_frees=18_000)
    verdict = summarize(find(evidence), evidence)
    assert (verdict.answer, verdict.function) == (Answer.GROWING, "")
    assert verdict.summary.startswith("GROWING: the live heap grew steadily, by 480 KiB in 30s")
    assert verdict.decides == "a longer trace, --duration 150s"


def test_a_heap_that_grows_by_chance_or_alone_is_not() -> None:
    assert answer(CHURN, LEAK, live=LIVE, memory=LIVE, older_frees=20_500) is Answer.NO_LEAK
    assert answer(CHURN, LEAK, live=LIVE, older_frees=18_000, memory=(0,) * READINGS) is Answer.NO_LEAK
    assert answer(CHURN, LEAK, live=LIVE, memory=LIVE, older_frees=18_000, live_known=False) is Answer.NO_LEAK
    small = tuple(each // 10 for each in LIVE)
    assert answer(CHURN, LEAK, live=small, memory=small, older_frees=18_000) is Answer.NO_LEAK


def test_a_site_that_the_rule_has_dismissed_is_not_found_again_as_the_heap() -> None:
    passing = replace(STEADY, allocations=1000, frees=800, kept_bytes=0)
    assert answer(passing) is Answer.NO_LEAK
