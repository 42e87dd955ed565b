"""The checks of the tasks that fix the leak and prove it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.base.units import format_size
from diagnosis.learn.captures import both_captures
from diagnosis.learn.catalog import SOURCE
from diagnosis.learn.owner import read_own
from diagnosis.learn.proof import Holds, prove
from diagnosis.learn.task import Outcome, no, yes
from diagnosis.learn.trial import Answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnosis.learn.bench import CatalogBench


def check_fix(bench: CatalogBench, words: Sequence[str]) -> Outcome:
    """Compile the learner's file and try it; the service runs it where it answers right."""
    del words
    if read_own(bench.source) == SOURCE.read_text():
        return no("unchanged", source=bench.source)
    try:
        trial = bench.rebuild()
    except LabError as error:
        return no("compiler", error=error)
    if trial.answers is not Answers.RIGHT:
        return no(str(trial.answers), detail=trial.detail, lookups=trial.lookups)
    return yes(lookups=trial.lookups, pid=bench.service.pid)


def check_prove(bench: CatalogBench, words: Sequence[str]) -> Outcome:
    """Two captures, before the fix and after it."""
    del words
    if not bench.is_built:
        return no("not_built")
    captures = both_captures(bench, bench.service.pid)
    if isinstance(captures, Outcome):
        return captures
    before, after = captures
    proof = prove(before.report, after.report)
    values = {
        "before_rate": format_size(proof.before),
        "after_rate": format_size(proof.after),
        "share": f"{proof.share:.0%}",
        "verdict": after.report.verdict,
    }
    if proof.holds is Holds.YES:
        return Outcome(passed=True, key="right", values=values, captures=captures)
    return Outcome(passed=False, key=str(proof.holds).replace(" ", "_"), values=values, captures=captures)
