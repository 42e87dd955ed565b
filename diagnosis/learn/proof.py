"""Does a fix hold? Two captures of the same service, before and after: gone, of another size, or not to be told."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.lab.grade import LEAKING_FUNCTION
from diagnosis.report.verdict import Answer

if TYPE_CHECKING:
    from diagnosis.report.report import Report

__all__ = ["Holds", "Proof", "kept_by", "prove", "prove_by_verdict"]

# One revision comes and another goes: what is kept at the end of a window can be off by one of them.
GONE_SHARE = 0.1
# Resident memory still moves a little: the interpreter, freed memory that malloc holds.
MEMORY_SHARE = 0.25
# Less in the window than this is no measure of what a fix does.
LEAST_BYTES = 4 << 20


class Holds(enum.StrEnum):
    """What the two captures say of a fix."""

    YES = "yes"
    STILL_LEAKS = "still leaks"
    ELSEWHERE = "another place leaks"
    MEMORY_GROWS = "memory grows"
    NO_BEFORE = "no leak before"


@dataclass(frozen=True)
class Proof:
    """What came of the comparison; ``before`` and ``after`` are what the function keeps, in bytes a minute."""

    holds: Holds
    before: float
    after: float
    verdict: str = ""

    @property
    def share(self) -> float:
        """What is left of the leak: 0 to 1, and more where it has become worse."""
        return max(0.0, self.after) / self.before if self.before else 0.0


def kept_by(report: Report, function: str) -> float:
    """What the stacks through a function keep, in bytes a minute."""
    kept = sum(stack.kept_bytes for stack in report.stacks if any(frame.name == function for frame in stack.frames))
    return kept / report.window_seconds * 60


def prove(before: Report, after: Report, function: str = LEAKING_FUNCTION) -> Proof:
    """Compare a service before a fix and after it, at the same speed.

    Args:
        before: the leak.
        after: what is to be without it.
        function: the one that leaked.
    """
    kept = kept_by(before, function), kept_by(after, function)

    def proof(holds: Holds) -> Proof:
        return Proof(holds, *kept, after.verdict.summary)

    if before.verdict.answer is Answer.NO_LEAK or kept[0] * before.window_seconds / 60 < LEAST_BYTES:
        return proof(Holds.NO_BEFORE)
    if kept[1] > GONE_SHARE * kept[0]:
        return proof(Holds.STILL_LEAKS)
    if after.verdict.answer is Answer.LEAK:
        return proof(Holds.ELSEWHERE)
    grown = after.truth.growth / after.window_seconds, before.truth.growth / before.window_seconds
    if grown[0] > MEMORY_SHARE * max(grown[1], kept[0] / 60):
        return proof(Holds.MEMORY_GROWS)
    return proof(Holds.YES)


def prove_by_verdict(before: Report, after: Report) -> Holds:
    """The same for any service, whatever it is that grew: memory that no allocator took has no rate of its own."""
    if before.verdict.answer is Answer.NO_LEAK:
        return Holds.NO_BEFORE
    if after.verdict.answer is Answer.NO_LEAK:
        return Holds.YES
    if after.verdict.function == before.verdict.function:
        return Holds.STILL_LEAKS
    return Holds.ELSEWHERE if after.verdict.answer is Answer.LEAK else Holds.MEMORY_GROWS
