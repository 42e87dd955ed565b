"""The checks of the tasks that find the leak: each compares an answer with the process itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from catalog_cache import Options

from diagnosis.base.units import format_size
from diagnosis.lab.grade import DROPPING_FUNCTION, LEAKING_FUNCTION
from diagnosis.learn.captures import capture_of
from diagnosis.learn.catalog import SOURCE, leaking_line
from diagnosis.learn.proof import kept_by
from diagnosis.learn.task import Outcome, no, number_in, size_in, yes
from diagnosis.report.verdict import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diagnosis.learn.bench import CatalogBench

# A figure that is read by eye and typed is right within this share.
READ_TOLERANCE = 0.05
# A rate that was measured in a window of its own.
RATE_TOLERANCE = 0.3
# What the kernel counts and what is claimed are told apart from here on.
APART = 1.25

# The reason why the dashboards were blind, among those that the text offers.
BLIND = "c"
REASONS = "abcd"


# --- the claims, the kernel, who grows ---


def check_claims(bench: CatalogBench, words: Sequence[str]) -> Outcome:
    """The status and the resident memory that the service claims."""
    claims = bench.service.claims.read()
    size = size_in(words)
    if size is None:
        return no("no_size")
    if claims.status.lower() not in {word.lower().strip(",;\"'") for word in words}:
        return no("status")
    if abs(size / claims.resident_bytes - 1) > READ_TOLERANCE:
        return no("size", typed=format_size(size))
    return yes(status=claims.status, claimed=format_size(claims.resident_bytes))


def sealed_claims(bench: CatalogBench) -> Mapping[str, object]:
    """What it claims now."""
    claims = bench.service.claims.read()
    return {"status": claims.status, "claimed": format_size(claims.resident_bytes)}


def check_kernel(bench: CatalogBench, words: Sequence[str]) -> Outcome:
    """What the kernel counts, now or lately."""
    claimed = bench.service.claims.read().resident_bytes
    size = size_in(words)
    # It grows while it is typed: anything that it was lately is right.
    minute = round(bench.service.ledger.read().leaked_bytes_per_minute)
    now = bench.service.process.resident().total_bytes
    if size is None:
        return no("no_size")
    if now < APART * claimed:
        return no("wait", claimed=format_size(claimed))
    if abs(size / claimed - 1) <= READ_TOLERANCE:
        return no("claim", typed=format_size(size))
    lately = max(claimed, now - 2 * minute - READ_TOLERANCE * now)
    if not lately <= size <= now * (1 + READ_TOLERANCE):
        return no("size", typed=format_size(size))
    return yes(now=format_size(now), claimed=format_size(claimed), apart=format_size(now - claimed))


def sealed_kernel(bench: CatalogBench) -> Mapping[str, object]:
    """What the kernel counts now."""
    return {"now": format_size(bench.service.process.resident().total_bytes), "pid": bench.service.pid}


def check_grows(bench: CatalogBench, words: Sequence[str]) -> Outcome:
    """Who grows, and how much a minute."""
    numbers = [word for word in words if word.isdecimal()]
    pid = number_in(numbers[0]) if numbers else None
    rate = size_in(words[words.index(numbers[0]) + 1 :]) if numbers else None
    if pid is None or rate is None:
        return no("incomplete")
    if pid != bench.service.pid:
        return no("ended" if pid in bench.state.pids else "pid", pid=pid)
    true = bench.service.ledger.read().speed * _bytes_a_minute()
    if abs(rate / true - 1) > RATE_TOLERANCE:
        return no("rate", typed=format_size(rate))
    return yes(pid=pid, typed=format_size(rate), true=format_size(true))


def _bytes_a_minute() -> float:
    """What the leak takes a minute at speed 1."""
    return Options().refresh_bytes / Options().period_seconds * 60


def sealed_grows(bench: CatalogBench) -> Mapping[str, object]:
    """Who grows, and how fast."""
    return {"pid": bench.service.pid, "true": format_size(bench.state.speed * _bytes_a_minute())}


# --- the trace, and what it names ---


def check_trace(bench: CatalogBench, words: Sequence[str]) -> Outcome:
    """A capture of the leak."""
    del words
    known = bench.state.pids[: bench.state.fixed_from]
    capture = capture_of(bench.before, known, bench.service.pid, bench.trace_seconds)
    if isinstance(capture, Outcome):
        return capture
    report = capture.report
    if report.verdict.answer is not Answer.LEAK:
        why = "spent" if bench.is_spent() else "no_leak"
        return no(why, verdict=report.verdict, seconds=f"{bench.trace_seconds:g}")
    true = bench.state.speed * _bytes_a_minute()
    kept = kept_by(report, LEAKING_FUNCTION)
    if abs(kept / true - 1) > RATE_TOLERANCE:
        return no("rate", kept=format_size(kept))
    found = report.outstanding_of(LEAKING_FUNCTION)
    return yes(
        kept=format_size(kept),
        true=format_size(true),
        blocks=f"{found.allocations:,}",
        frees=f"{found.frees:,}",
        bytes=format_size(found.outstanding_bytes),
    )


def sealed_trace(bench: CatalogBench) -> Mapping[str, object]:
    """What a capture shows."""
    return {"true": format_size(bench.state.speed * _bytes_a_minute())}


def check_name(bench: CatalogBench, words: Sequence[str]) -> Outcome:
    """Function, caller and line."""
    del bench
    names = [word.strip(",;()") for word in words]
    place = re.search(r"([\w.+-]+\.\w+):(\d+)", " ".join(words))
    if not names:
        return no("incomplete")
    if LEAKING_FUNCTION not in names:
        return no("swapped" if names[0] == DROPPING_FUNCTION else "function", typed=names[0])
    if DROPPING_FUNCTION not in names or names.index(DROPPING_FUNCTION) < names.index(LEAKING_FUNCTION):
        return no("caller")
    if place is None:
        return no("no_line")
    if place[1] != SOURCE.name or abs(number_in(place[2]) - leaking_line()) > 1:
        return no("line", typed=place[0])
    return yes(**true_place())


def true_place() -> dict[str, object]:
    """The answer."""
    return {
        "function": LEAKING_FUNCTION,
        "caller": DROPPING_FUNCTION,
        "file": SOURCE.name,
        "line": leaking_line(),
    }


def check_why(bench: CatalogBench, words: Sequence[str]) -> Outcome:
    """Why the dashboards were blind."""
    letter = words[0].lower().strip(".)") if words else ""
    if letter not in REASONS or len(letter) != 1:
        return no("incomplete")
    if letter != BLIND:
        return no(f"wrong_{letter}")
    claims, now = bench.service.claims.read(), bench.service.process.resident().total_bytes
    return yes(
        claimed=format_size(claims.resident_bytes), now=format_size(now), share=f"{claims.resident_bytes / now:.0%}"
    )
