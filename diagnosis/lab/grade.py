"""Right or wrong, and by how much: a diagnosis against the leaker's own ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.base.units import format_size
from diagnosis.report.lost import UNCOUNTED
from diagnosis.report.verdict import Answer

if TYPE_CHECKING:
    from diagnosis.lab.ledger import LedgerWindow, Reading
    from diagnosis.report.report import Report

# The answer: native/leak/src/catalog_cache.c allocates here, and its caller drops the pointer.
LEAKING_FUNCTION = "catalog_cache_insert"
DROPPING_FUNCTION = "catalog_cache_refresh"
CALLERS = {LEAKING_FUNCTION: DROPPING_FUNCTION, DROPPING_FUNCTION: "catalog_cache_worker"}

# A rate read off a dashboard or out of another tool's window is right within this share of the ledger's.
RATE_TOLERANCE = 0.2


@dataclass(frozen=True)
class Grade:
    """Whether an answer is right, and a line that says why. ``available`` is False where it cannot be known."""

    right: bool
    text: str
    available: bool = True


def not_available(why: str) -> Grade:
    """No grade: the diagnosis stands without it."""
    return Grade(right=False, text=f"The grade is not available: {why}", available=False)


def grade(report: Report, ledger: LedgerWindow) -> Grade:
    """Hold a report against the ledger of the same window: the function, the bytes and the calls have to be right.

    Growth of the leaking function that is not called a leak is right as well: a short window, or a busy machine, does
    not support more.
    """
    verdict = report.verdict
    if not ledger.bytes:
        if verdict.leak:
            return Grade(right=False, text=f"WRONG: nothing leaked, and {verdict.function} was named")
        return Grade(right=True, text="RIGHT: nothing leaked in this window, and no leak was named")
    found = report.outstanding_of(LEAKING_FUNCTION)
    if verdict.answer is Answer.NO_LEAK or verdict.function != LEAKING_FUNCTION:
        named = verdict.function or "no function"
        return Grade(
            right=False,
            text=f"WRONG: {named} was named; {LEAKING_FUNCTION} leaked {format_size(ledger.bytes)}",
        )
    difference = found.outstanding_bytes - ledger.bytes
    calls = found.allocations - ledger.calls
    if (difference or calls) and (lost := sum(report.lost.get(kind, 0) for kind in UNCOUNTED)):
        return not_available(f"{lost:,} events were not counted, and the bytes differ by {difference:+,}")
    if difference or calls:
        return Grade(
            right=False,
            text=f"WRONG: the function is right, its bytes differ by {difference:+,} and its calls by {calls:+,} from"
            f" the ledger's {ledger.bytes:,} bytes in {ledger.calls:,} calls",
        )
    return Grade(
        right=True,
        text=f"RIGHT: {LEAKING_FUNCTION}, {ledger.bytes:,} bytes in {ledger.calls:,} calls, as the ledger has it",
    )


def grade_function(name: str, reading: Reading) -> Grade:
    """Compare the name of a function with the ledger."""
    leaked = f"{format_size(reading.insert_bytes)} in {reading.inserts:,} calls so far"
    if not reading.insert_bytes:
        return Grade(right=False, text="WRONG: nothing has leaked yet, so no function has")
    if name.removesuffix("()") == LEAKING_FUNCTION:
        return Grade(right=True, text=f"RIGHT: {LEAKING_FUNCTION} leaked {leaked}")
    if name.removesuffix("()") == DROPPING_FUNCTION:
        return Grade(
            right=True,
            text=f"RIGHT: {DROPPING_FUNCTION} forgets what {LEAKING_FUNCTION}, which it calls, took: {leaked}",
        )
    return Grade(right=False, text=f"WRONG: {name} is not the function that leaked {leaked}")


def grade_rate(name: str, bytes_per_minute: float, reading: Reading) -> Grade:
    """Compare a function and its rate, from a report without a ledger, with the ledger's average so far."""
    named = grade_function(name, reading)
    if not named.right:
        return named
    true = reading.leaked_bytes_per_minute
    off = bytes_per_minute / true - 1
    text = (
        f"{name} at {format_size(bytes_per_minute)} a minute; the ledger's average is {format_size(true)} ({off:+.1%})"
    )
    if abs(off) > RATE_TOLERANCE:
        return Grade(right=False, text=f"WRONG by more than {RATE_TOLERANCE:.0%}: {text}")
    return Grade(right=True, text=f"RIGHT: {text}")
