"""What samples of page faults and the kernel's figures say together."""

from __future__ import annotations

import pytest

from diagnosis.base.errors import LabError
from diagnosis.faults.growth import TouchedStack
from diagnosis.faults.light import judge_growth
from diagnosis.report.verdict import SMALLEST_LEAK_BYTES, Answer
from diagnosis.target.stack import Frame

MIB = 1 << 20
SECONDS = 30.0
GROWING = [5 * MIB * each // 24 for each in range(25)]


def stack(function: str, size: float) -> TouchedStack:
    frames = (Frame(function, "app", "", 0, 0), Frame("main", "app", "", 0, 0)) if function else ()
    return TouchedStack(frames, size, size / 10, 8)


def test_who_touched_the_most_is_named_also_behind_samples_without_a_stack() -> None:
    verdict = judge_growth((stack("", 9 * MIB), stack("fill", 5 * MIB)), GROWING, SECONDS, SMALLEST_LEAK_BYTES)
    assert (verdict.answer, verdict.function, verdict.caller) == (Answer.GROWING, "fill", "main")
    assert "fill, called from main, touched 5.00 MiB of new memory (± 512 KiB, 8 samples). " in verdict.summary
    for none in ((), (stack("", 9 * MIB),)):
        with pytest.raises(LabError, match="not one page fault of it was sampled"):
            judge_growth(none, GROWING, SECONDS, SMALLEST_LEAK_BYTES)


def test_who_touched_much_more_than_memory_grew_by_gave_it_back() -> None:
    verdict = judge_growth((stack("job", 3000 * MIB),), GROWING, SECONDS, SMALLEST_LEAK_BYTES)
    assert "8 samples, most of it given back)" in verdict.summary


@pytest.mark.parametrize(
    ("growth", "said"),
    [
        ([each // 100 for each in GROWING], "changed by 51.2 KiB in 30s, less than the 64.0 KiB that are worth a name"),
        ([0, *(5 * MIB,) * 24], "changed by 5.00 MiB in 30s, and it does not go on."),
    ],
)
def test_why_nobody_is_named_is_said(growth: list[int], said: str) -> None:
    verdict = judge_growth((stack("fill", 5 * MIB),), growth, SECONDS, SMALLEST_LEAK_BYTES)
    assert verdict.answer is Answer.NO_LEAK
    assert said in verdict.summary
