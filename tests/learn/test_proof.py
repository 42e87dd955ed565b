"""Whether a fix holds: gone, still there in another size, or elsewhere."""

from __future__ import annotations

import pytest

from diagnosis.learn.proof import Holds, kept_by, prove
from diagnosis.report.report import Report, ResidentMemory, StackReport, Target
from diagnosis.report.summary import Verdict
from diagnosis.report.verdict import Answer
from diagnosis.target.symbols import Frame

MIB = 1 << 20
FUNCTION, OTHER = "catalog_cache_insert", "json_parse"


def stack(function: str, mib: float, older: float = 0.0) -> StackReport:
    frames = tuple(Frame(name, "lib.so", "", 0, 0) for name in (function, "main"))
    return StackReport(
        frames, False, round(mib * MIB), 100, round(mib * MIB), 0, 1.0, 1.0, 0.0, 1.0, None, 0, round(older * MIB)
    )


def report(answer: Answer, *stacks: StackReport, growth: float, seconds: float = 60.0) -> Report:
    return Report(
        Target(1, "service"),
        seconds,
        20,
        stacks,
        ResidentMemory(0, round(growth * MIB), 0, round(growth * MIB)),
        None,
        {},
        (),
        Verdict(answer, "", "", "in words"),
    )


BEFORE = report(Answer.LEAK, stack(FUNCTION, 100), stack(OTHER, 1), growth=100)


def test_a_rate_is_of_all_stacks_of_the_function_whatever_the_window() -> None:
    window = report(
        Answer.LEAK, stack(FUNCTION, 10), stack(FUNCTION, 5, older=2), stack(OTHER, 1), growth=14, seconds=30
    )
    assert kept_by(window, FUNCTION) == 26 * MIB


@pytest.mark.parametrize(
    ("after", "holds"),
    [
        (report(Answer.NO_LEAK, stack(FUNCTION, 0), growth=0), Holds.YES),
        # One revision more at the end of the window than at its start.
        (report(Answer.NO_LEAK, stack(FUNCTION, 1), growth=1), Holds.YES),
        (report(Answer.NO_LEAK, growth=-3), Holds.YES),
        (report(Answer.LEAK, stack(FUNCTION, 50), growth=50), Holds.STILL_LEAKS),
        (report(Answer.GROWING, stack(FUNCTION, 11), growth=11), Holds.STILL_LEAKS),
        (report(Answer.LEAK, stack(OTHER, 30), growth=30), Holds.ELSEWHERE),
        (report(Answer.GROWING, stack(FUNCTION, 0), growth=60), Holds.MEMORY_GROWS),
    ],
)
def test_a_fix_holds_where_the_function_the_verdict_and_the_memory_say_so(after: Report, holds: Holds) -> None:
    assert prove(BEFORE, after, FUNCTION).holds is holds


def test_windows_of_different_lengths_are_compared_by_their_rate() -> None:
    after = report(Answer.LEAK, stack(FUNCTION, 25), growth=25, seconds=30)
    assert prove(BEFORE, after, FUNCTION).share == pytest.approx(0.5)


def test_without_a_leak_before_nothing_is_proven() -> None:
    none = report(Answer.NO_LEAK, growth=0)
    assert prove(none, none, FUNCTION).holds is Holds.NO_BEFORE
