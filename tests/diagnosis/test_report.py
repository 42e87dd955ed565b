from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from heap_trace import MAX_FRAMES, Lost
from heap_trace import Ending as StackEnding
from jsonschema import validate
from rich.console import Console

from diagnosis.lab.claims import Claims, ClaimsWindow
from diagnosis.lab.ledger import IdleInterval, LedgerWindow
from diagnosis.output.document import SCHEMA_FILE, Capture, report_as_json
from diagnosis.output.tables import print_report
from diagnosis.report.report import build_report
from diagnosis.report.site import UNKNOWN_STACK as UNKNOWN
from diagnosis.report.verdict import SAMPLES_PER_WINDOW
from diagnosis.target.allocator import Allocator
from diagnosis.target.process import Resident
from diagnosis.trace.counts import Counts
from diagnosis.trace.snapshot import Snapshot, Survivors
from diagnosis.trace.window import Ending, Sample, Window
from tests.diagnosis.traced import BASE, MAIN, MIB, MadeSymbolizer, MadeTracer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from diagnosis.report.report import Report

SECONDS = 30.0
LOOKS = SAMPLES_PER_WINDOW + 1

LEAK, BUSY, STRAY, UNKNOWN_STACK = 1, 2, 3, 0
STACKS = {LEAK: (0x10, 0x20, MAIN), BUSY: (0x40, 0x50, MAIN), STRAY: (0x60, 0, 0x70)}


def counts(look: int) -> Mapping[int, Counts]:
    """10 MiB were taken before the window; from then on 1 MiB leaks a look, and BUSY frees all that it takes."""
    return {
        LEAK: Counts(10 + look, (10 + look) * MIB, 0, 0),
        BUSY: Counts(1000 * look, 64_000 * look, 1000 * look, 64_000 * look),
        STRAY: Counts(look, 100 * look, 0, 0),
        UNKNOWN_STACK: Counts(2 * look, 20 * look, look, 10 * look),
        99: Counts(5, 500, 0, 0),  # did nothing in the window
    }


def window(at: Callable[[int], Mapping[int, Counts]] = counts, growth: int = MIB, **changes: Any) -> Window:  # noqa: ANN401
    samples = tuple(
        Sample(Snapshot(1000 + SECONDS * look / (LOOKS - 1), at(look)), Resident(BASE + growth * look, growth * look))
        for look in range(LOOKS)
    )
    survivors = {LEAK: Survivors(LOOKS - 1, (LOOKS - 1) * MIB, SECONDS - 0.5)}
    return replace(Window(samples, survivors, dict.fromkeys(Lost, 0)), **changes)


def reported(measured: Window, **changes: Any) -> Report:  # noqa: ANN401 - fields of the stand-in
    tracer: Any = MadeTracer(stacks=STACKS, **changes)
    symbolizer: Any = MadeSymbolizer()
    return build_report(tracer, measured, symbolizer)


def claims(resident: int) -> Claims:
    return Claims("healthy", "All systems operational.", 0.6, resident, {"memory": "normal"}, 0.001)


def test_the_stack_that_holds_most_comes_first_with_its_numbers() -> None:
    report = reported(window())
    leak = report.stacks[0]
    assert [frame.function for frame in leak.frames] == ["f10", "f20", "main"]
    assert (leak.outstanding_bytes, leak.allocations, leak.frees) == (24 * MIB, 24, 0)
    assert leak.leak_ratio == 1.0
    assert leak.bytes_per_minute == pytest.approx(48 * MIB)
    assert leak.oldest_seconds == SECONDS - 0.5
    assert leak.share_of_resident_growth == 1.0
    assert not leak.broken
    assert report.window_seconds == pytest.approx(SECONDS)


def test_what_was_given_back_is_not_outstanding() -> None:
    busy = next(stack for stack in reported(window()).stacks if stack.frames and stack.frames[0].function == "f40")
    assert (busy.outstanding_bytes, busy.allocations, busy.frees) == (0, 24_000, 24_000)
    assert (busy.leak_ratio, busy.oldest_seconds) == (0.0, 0.0)


def test_stacks_that_did_nothing_in_the_window_are_left_out() -> None:
    assert len(reported(window()).stacks) == 4


def test_no_stack_holds_less_than_nothing() -> None:
    freed = window(lambda look: {LEAK: Counts(100, 100 * MIB, look, look * MIB)})
    (stack,) = reported(freed).stacks
    assert stack.outstanding_bytes == 0
    assert stack.leak_ratio == 0.0
    assert not reported(freed).verdict.leak


def test_no_share_is_said_where_resident_memory_did_not_grow() -> None:
    assert {stack.share_of_resident_growth for stack in reported(window(growth=0)).stacks} == {None}


def test_the_verdict_names_the_function_and_its_caller() -> None:
    verdict = reported(window()).verdict
    assert (verdict.leak, verdict.function, verdict.caller) == (True, "f10", "f20")
    assert "24.0 MiB outstanding" in verdict.summary, "without the 10 MiB of before"


def test_one_site_is_judged_over_all_the_ways_that_lead_to_it() -> None:
    """GIVEN two stacks that grow one after the other, THEN their common call site keeps growing."""

    def take_turns(look: int) -> Mapping[int, Counts]:
        first = min(look, LOOKS // 2)
        return {1: Counts(first, first * MIB, 0, 0), 2: Counts(look - first, (look - first) * MIB, 0, 0)}

    survivors = {1: Survivors(12, 12 * MIB, SECONDS)}
    apart: Any = MadeTracer(stacks={1: (0x10, 0x20, 0x30), 2: (0x11, 0x20, 0x30)})
    together: Any = MadeTracer(stacks={1: (0x10, 0x20, 0x30), 2: (0x10, 0x20, 0x40)})
    symbolizer: Any = MadeSymbolizer()
    measured = window(take_turns, survivors=survivors)
    assert not build_report(apart, measured, symbolizer).verdict.leak
    verdict = build_report(together, measured, symbolizer).verdict
    assert (verdict.leak, verdict.function, verdict.caller) == (True, "f10", "f20")


def test_an_unknown_stack_has_a_name_too() -> None:
    only = window(
        lambda look: {UNKNOWN_STACK: Counts(look, look * MIB, 0, 0)},
        survivors={UNKNOWN_STACK: Survivors(1, MIB, SECONDS)},
    )
    assert reported(only).verdict.function == UNKNOWN


def test_the_json_has_every_field() -> None:
    quiet = IdleInterval(0, 9, 100, 1000 * MIB)
    text = report_as_json(
        Capture(reported(window())), ClaimsWindow(claims(BASE), claims(BASE)), LedgerWindow(0, 0, quiet, quiet)
    )
    body = json.loads(text)
    assert text.endswith("}\n")
    validate(body, json.loads(SCHEMA_FILE.read_text()))
    assert body["target"] == {"pid": 4711, "command": "made up"}
    assert body["stacks"][0]["frames"][0] == {
        "function": "f10", "module": "made.so", "file": "made.c", "line": 16, "offset": 16,
        "python": False, "interpreter": False, "packaged": False,
    }  # fmt: skip
    assert body["claims"]["end"]["resident_bytes"] == BASE
    assert body["truth"] == {
        "resident_bytes_start": BASE,
        "resident_bytes_end": BASE + 24 * MIB,
        "anonymous_bytes_start": 0,
        "anonymous_bytes_end": 24 * MIB,
    }
    assert set(body["ledger"]) == {"bytes", "calls", "start", "end"}
    assert {kind.name.lower() for kind in Lost} < set(body["lost"])


def test_the_json_of_a_process_without_claims_and_ledger_says_so() -> None:
    body = json.loads(report_as_json(Capture(reported(window()))))
    assert (body["claims"], body["ledger"]) == (None, None)


# --- what is not known ---


@pytest.mark.parametrize("kind", list(Lost))
def test_every_kind_of_lost_event_is_counted_and_said(kind: Lost) -> None:
    report = reported(window(lost={**dict.fromkeys(Lost, 0), kind: 1234}))
    assert report.lost[kind.name.lower()] == 1234
    assert [note for note in report.notes if note.startswith("1,234 ")]
    others = {name: count for name, count in report.lost.items() if name not in (kind.name.lower(), "broken_stack")}
    assert set(others.values()) == {0}


def test_events_that_are_missing_from_the_numbers_are_said_beside_no_leak() -> None:
    """A block whose stack is unknown is counted all the same."""
    still = window(lambda look: {BUSY: counts(look)[BUSY]}, growth=0)
    for kind, missing in ((Lost.THREAD, True), (Lost.MAPPING, True), (Lost.STACK, False)):
        report = reported(replace(still, lost={**dict.fromkeys(Lost, 0), kind: 7}))
        assert ("7 events were not counted" in report.verdict.summary) is missing, kind


def test_stacks_that_are_cut_short_or_too_deep_are_counted_by_their_allocations() -> None:
    report = reported(window())
    assert report.lost["broken_stack"] == 24 + 48, "the stray one's and the unknown one's"
    assert any("frame pointers" in note for note in report.notes)
    assert next(stack for stack in report.stacks if stack.frames and stack.frames[0].function == "f60").broken
    tracer: Any = MadeTracer(stacks={LEAK: tuple(range(2, MAX_FRAMES + 2))})
    symbolizer: Any = MadeSymbolizer()
    deep = build_report(tracer, window(lambda look: {LEAK: counts(look)[LEAK]}), symbolizer)
    assert deep.lost["deep_stack"] == 24
    assert any(str(MAX_FRAMES) in note for note in deep.notes)


@pytest.mark.parametrize("how", [how for how in StackEnding if how is not StackEnding.UNKNOWN])
def test_how_stacks_end_is_counted_by_their_allocations(how: StackEnding) -> None:
    tracer: Any = MadeTracer(stacks={LEAK: (0x10, 0x20)}, endings={LEAK: how})
    symbolizer: Any = MadeSymbolizer()
    report = build_report(tracer, window(lambda look: {LEAK: counts(look)[LEAK]}), symbolizer)

    said = {kind: number for kind, number in report.lost.items() if number}
    kinds = {StackEnding.START: {}, StackEnding.TOO_DEEP: {"deep_stack": 24}}
    assert said == kinds.get(how, {f"{how.name.lower()}_stack": 24})
    assert len(report.notes) == len(said)
    assert report.stacks[0].broken is (how not in (StackEnding.START, StackEnding.TOO_DEEP))


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"ending": Ending.EXITED}, "exit", "ended during the window"),
        ({"ending": Ending.EXECED}, "exec", "another program"),
        ({"children": (17, 18)}, "child", "17, 18"),
    ],
)
def test_what_happened_to_the_process_is_said(changes: dict[str, Any], kind: str, said: str) -> None:
    report = reported(window(**changes))
    assert report.lost[kind] == len(changes.get("children", (1,)))
    assert any(said in note for note in report.notes)
    assert reported(window()).lost[kind] == 0
    assert not any(said in note for note in reported(window()).notes)


def test_what_an_allocator_hides_is_said(tmp_path: Path) -> None:
    hiding = Allocator("libnew.so", tmp_path, (), ("C++ new is not traced.",))
    assert reported(window(), allocators=(hiding,)).notes[-1] == "C++ new is not traced."


def test_what_happened_to_the_probes_is_said() -> None:
    assert reported(window(), notes=("They were attached anew.",)).notes[-1] == "They were attached anew."


# --- on a terminal ---


def printed(report: Report, claimed: ClaimsWindow | None = None) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        print_report(console, report, claims=claimed)
    return capture.get()


def test_the_printed_report_shows_stacks_claims_and_verdict() -> None:
    text = printed(reported(window()), ClaimsWindow(claims(30 * MIB), claims(31 * MIB)))
    for said in (
        "pid 4711: made up",
        "24.0 MiB outstanding, 24 allocations, 0 frees, leak ratio 100.0% of the bytes, 100.0% of the blocks,",
        "48.0 MiB a minute",
        "f10                              made.c:16",
        "31.0 MiB",
        "124 MiB",
        "WARNING: f10, called from f20, leaks",
        "... and no further: a line below says why",
        "No event was lost.",
    ):
        assert said in text
    assert text.index("f10") < text.index("f20") < text.index("main")


def test_the_printed_report_does_not_say_that_all_was_counted_when_it_was_not() -> None:
    text = printed(reported(window(lost={**dict.fromkeys(Lost, 0), Lost.THREAD: 3})))
    assert "No event was lost." not in text
    assert "3 calls were not seen" in text


def test_why_memory_is_not_accounted_for_is_said() -> None:
    unread = replace(window(), unread="pid 7 has a million mappings")
    assert "What the memory is used for is not told: pid 7 has a million mappings." in reported(unread).notes
