from __future__ import annotations

from dataclasses import replace

import pytest

from diagnosis.lab.grade import grade, grade_function, grade_rate, not_available
from diagnosis.lab.ledger import IdleInterval, LedgerWindow
from diagnosis.report.report import Report, ResidentMemory, StackReport, Target
from diagnosis.report.summary import Verdict
from diagnosis.report.verdict import Answer
from diagnosis.target.symbols import Frame
from tests.diagnosis.test_ledger import READING

CHUNK = 65_536
LEDGER = LedgerWindow(160 * CHUNK, 160, IdleInterval(0, 1, 16, 16 * CHUNK), IdleInterval(2, 3, 176, 176 * CHUNK))
NOTHING = LedgerWindow(0, 0, IdleInterval(0, 9, 0, 0), IdleInterval(0, 9, 0, 0))


def frame(function: str) -> Frame:
    return Frame(function, "catalog.so", "src/catalog_cache.c", 82, 4096)


def stack(outstanding: int, allocations: int, *functions: str) -> StackReport:
    return StackReport(
        tuple(map(frame, functions)), False, outstanding, allocations, outstanding, 0, 1.0, 1.0, 1.0, 10.0, 1.0
    )


LEAKING = stack(160 * CHUNK, 160, "catalog_cache_insert", "catalog_cache_refresh", "catalog_cache_worker")
BUSY = stack(512, 40, "_PyObject_Malloc", "catalog_cache_insert")


def report(
    *stacks: StackReport,
    leak: bool = True,
    function: str = "catalog_cache_insert",
    lost: dict[str, int] | None = None,
) -> Report:
    """A report with these stacks and this verdict."""
    return Report(
        target=Target(17, "python -m service"),
        window_seconds=10.0,
        readings=25,
        stacks=stacks,
        truth=ResidentMemory(0, 0, 0, 0),
        account=None,
        lost=lost or {},
        notes=(),
        verdict=Verdict(Answer.LEAK if leak else Answer.NO_LEAK, function if leak else "", "", "a summary"),
    )


def test_the_right_function_with_the_ledger_s_bytes_and_calls_is_right() -> None:
    result = grade(report(LEAKING, BUSY), LEDGER)
    assert result.right
    assert result.text == "RIGHT: catalog_cache_insert, 10,485,760 bytes in 160 calls, as the ledger has it"


def test_the_bytes_of_every_stack_of_the_function_count() -> None:
    halves = [replace(LEAKING, outstanding_bytes=80 * CHUNK, allocations=80)] * 2
    assert grade(report(*halves), LEDGER).right


@pytest.mark.parametrize("function", ["catalog_cache_refresh", "malloc", "catalog_cache_insert_many"])
def test_another_function_is_wrong(function: str) -> None:
    result = grade(report(LEAKING, function=function), LEDGER)
    assert not result.right
    assert result.text == f"WRONG: {function} was named; catalog_cache_insert leaked 10.0 MiB"


@pytest.mark.parametrize(("bytes_off", "calls_off"), [(1, 0), (-1, 0), (0, 1), (0, -1), (-CHUNK, -1)])
def test_the_right_function_with_other_numbers_is_wrong_by_how_much(bytes_off: int, calls_off: int) -> None:
    off = replace(
        LEAKING,
        outstanding_bytes=LEAKING.outstanding_bytes + bytes_off,
        allocations=LEAKING.allocations + calls_off,
    )
    result = grade(report(off), LEDGER)
    assert not result.right
    assert f"bytes differ by {bytes_off:+,} and its calls by {calls_off:+,}" in result.text


def test_bytes_under_a_stack_that_only_passes_through_the_function_do_not_count() -> None:
    assert not grade(report(replace(BUSY, outstanding_bytes=160 * CHUNK, allocations=160)), LEDGER).right


def test_no_leak_named_where_one_was_is_wrong() -> None:
    result = grade(report(LEAKING, leak=False), LEDGER)
    assert not result.right
    assert "no function was named" in result.text


def test_no_leak_named_where_none_was_is_right() -> None:
    assert grade(report(BUSY, leak=False), NOTHING).right


def test_a_leak_named_where_none_was_is_wrong() -> None:
    result = grade(report(BUSY, function="_PyObject_Malloc"), NOTHING)
    assert not result.right
    assert result.text == "WRONG: nothing leaked, and _PyObject_Malloc was named"


@pytest.mark.parametrize(
    "name", ["catalog_cache_insert", "catalog_cache_insert()", "catalog_cache_refresh", "catalog_cache_refresh()"]
)
def test_the_name_of_who_takes_or_of_who_forgets_is_right(name: str) -> None:
    result = grade_function(name, READING)
    assert result.right
    assert "2.00 MiB in 32 calls" in result.text


@pytest.mark.parametrize("name", ["", "malloc", "catalog_cache_worker", "catalog_cache_insert2", "insert"])
def test_any_other_name_is_wrong(name: str) -> None:
    assert not grade_function(name, READING).right
    assert "2.00 MiB in 32 calls" in grade_function(name, READING).text


def test_before_anything_has_leaked_no_name_is_right() -> None:
    assert not grade_function("catalog_cache_insert", replace(READING, insert_bytes=0, inserts=0)).right


@pytest.mark.parametrize(("factor", "right"), [(1.0, True), (1.19, True), (0.81, True), (1.21, False), (0.79, False)])
def test_a_rate_is_right_within_a_fifth_of_the_ledger_s(factor: float, right: bool) -> None:
    rate = READING.leaked_bytes_per_minute * factor
    result = grade_rate("catalog_cache_insert", rate, READING)
    assert result.right is right
    assert f"({factor - 1:+.1%})" in result.text


def test_the_right_rate_of_another_function_is_wrong() -> None:
    assert not grade_rate("malloc", READING.leaked_bytes_per_minute, READING).right


def test_a_rate_is_wrong_while_nothing_has_leaked() -> None:
    result = grade_rate("catalog_cache_insert", 1.0, replace(READING, insert_bytes=0, inserts=0))
    assert not result.right


def test_growth_of_the_right_function_is_right_where_the_window_supports_no_more() -> None:
    """A busy machine gives too few readings for a leak: the function, the bytes and the calls are right."""
    found = report(LEAKING)
    growing = replace(found, verdict=replace(found.verdict, answer=Answer.GROWING))
    assert grade(growing, LEDGER).right
    assert not grade(replace(growing, verdict=replace(growing.verdict, function="malloc")), LEDGER).right


def test_bytes_that_differ_where_events_were_lost_have_no_grade() -> None:
    off = replace(LEAKING, outstanding_bytes=LEAKING.outstanding_bytes - CHUNK, allocations=LEAKING.allocations - 1)
    result = grade(report(off, lost={"thread": 1}), LEDGER)
    assert not result.available
    assert result.text == "The grade is not available: 1 events were not counted, and the bytes differ by -65,536"
    assert grade(report(LEAKING, lost={"thread": 1}), LEDGER).right


def test_no_grade_is_neither_right_nor_wrong() -> None:
    result = not_available("the ledger moved during each of 38 readings")
    assert (result.right, result.available) == (False, False)
    assert result.text == "The grade is not available: the ledger moved during each of 38 readings"
