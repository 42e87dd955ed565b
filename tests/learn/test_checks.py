"""Why a check of the lab's own tasks does not hold is said as it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from diagnosis.learn.bench import CatalogBench
from diagnosis.learn.checks import check_grows, check_name, check_trace
from diagnosis.output.document import Capture, report_as_json
from diagnosis.report.verdict import Answer
from tests.learn.test_proof import FUNCTION, report, stack

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.mark.parametrize(("leaked_mib", "said"), [(380, "spent"), (379, "no_leak")])
def test_a_service_that_has_leaked_all_that_it_may_is_not_to_be_traced_for_longer(
    tmp_path: Path, leaked_mib: int, said: str
) -> None:
    """One that runs elsewhere is not started anew by `learn`: the learner has to."""
    found = report(Answer.GROWING, stack(FUNCTION, 100), growth=100)
    (tmp_path / "before.json").write_text(report_as_json(Capture(found), everything=True))
    reading = SimpleNamespace(bytes_live=leaked_mib * MIB, cap_bytes=400 * MIB)
    bench: Any = SimpleNamespace(
        before=tmp_path / "before.json",
        state=SimpleNamespace(pids=[1], fixed_from=None, speed=60.0),
        service=SimpleNamespace(pid=1, ledger=SimpleNamespace(read=lambda: reading)),
        trace_seconds=5.0,
    )
    bench.is_spent = lambda: CatalogBench.is_spent(bench)

    outcome = check_trace(bench, [])

    assert (outcome.passed, outcome.key) == (False, said)


def test_a_number_that_is_longer_than_python_reads_is_a_wrong_answer() -> None:
    bench: Any = SimpleNamespace(state=SimpleNamespace(pids=[1]), service=SimpleNamespace(pid=1))
    long = "9" * 5000
    assert check_grows(bench, [long, "30", "MiB"]).key == "pid"
    place = ["catalog_cache_insert", "catalog_cache_refresh", f"catalog_cache.c:{long}"]
    assert check_name(bench, place).key == "line"
