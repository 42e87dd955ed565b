"""Blocks that --min-size left out: what they can have taken is not called the allocator's, and is no "no leak"."""

from __future__ import annotations

from collections import Counter

from diagnosis.report.account import Traced, account
from diagnosis.report.history import Evidence
from diagnosis.report.summary import summarize
from diagnosis.report.unseen import Unseen
from diagnosis.report.verdict import Answer, find
from diagnosis.target.memory import Memory, Use
from tests.diagnosis.windows import FLAT, MIB, READINGS

GROWN = Memory(anonymous=3 * MIB, uses=Counter({Use.HEAP: 3 * MIB}))
CHURN = Traced(live_growth=0, freed=100 * MIB)


def test_what_was_left_out_is_not_called_freed_memory() -> None:
    (held,) = account(Memory(), GROWN, CHURN).anonymous
    assert held.name == "retained"
    (left,) = account(Memory(), GROWN, Traced(live_growth=0, freed=100 * MIB, left_out=1000)).anonymous
    assert (left.name, left.bytes) == ("left_out", 3 * MIB)
    assert left.meaning.startswith("blocks below 1000 B, which --min-size left out")
    assert "without --min-size" in left.remedy


def test_what_was_left_out_grows_until_it_is_counted() -> None:
    grown = account(Memory(), GROWN, Traced(live_growth=0, freed=100 * MIB, left_out=1000))
    (part,) = grown.unseen
    memory = tuple(3 * MIB * i // (READINGS - 1) for i in range(READINGS))
    unseen = Unseen(part.bytes, part.name, part.meaning, readings=memory)
    evidence = Evidence(30.0, [], live=FLAT, memory=memory, unseen=[unseen])
    verdict = summarize(find(evidence), evidence, grown)
    assert verdict.answer is Answer.GROWING
    assert verdict.decides == "a trace without --min-size"
    assert "No call" not in verdict.summary


def test_nothing_is_left_out_where_memory_did_not_grow() -> None:
    assert account(GROWN, GROWN, Traced(live_growth=0, freed=MIB, left_out=1000)).anonymous == ()
