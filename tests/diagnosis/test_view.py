from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from diagnosis.lab.claims import Claims
from diagnosis.lab.view import PLAIN_SECONDS, LiveView, Moment, PlainView, draw

if TYPE_CHECKING:
    from diagnosis.lab.view import View

MIB = 1 << 20
CLAIMS = Claims(
    status="healthy",
    message="All systems operational.",
    memory_usage_percent=0.58,
    resident_bytes=31 * MIB,
    health_checks={"memory": "normal", "gc": "healthy"},
    lookup_seconds=0.0034,
)
MOMENT = Moment(
    seconds=10.0,
    story=600.0,
    story_end=3600.0,
    phase="leaking",
    claims=CLAIMS,
    resident_bytes=155 * MIB,
    resident_growth=75 * MIB,
    step="watching",
)


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=100, legacy_windows=False), file


def lines(*moments: Moment) -> list[str]:
    out, file = console()
    with PlainView(out) as view:
        for moment in moments:
            view.show(moment)
    return file.getvalue().splitlines()


def test_a_plain_line_sets_claims_beside_the_kernel_s_truth() -> None:
    (line,) = lines(MOMENT)
    claimed, known = line.split("|")[:2]
    for said in ("10m 00s", "leaking", "watching", "healthy", "0.6 %", "31.0 MiB resident"):
        assert said in claimed
    for said in ("155 MiB resident", "75.0 MiB more than at the start"):
        assert said in known
    assert "lookup 3.40 ms" in line


def test_plain_lines_come_every_few_seconds() -> None:
    moments = [replace(MOMENT, seconds=10 + tenth / 10) for tenth in range(round(PLAIN_SECONDS * 20) + 1)]
    assert len(lines(*moments)) == 3


@pytest.mark.parametrize("change", [{"phase": "degraded"}, {"step": "tracing"}])
def test_a_change_of_phase_or_step_is_said_at_once(change: dict[str, str]) -> None:
    changed = replace(MOMENT, **change)  # type: ignore[arg-type]
    assert len(lines(MOMENT, changed, changed)) == 2


def test_a_plain_view_writes_no_escape_codes_and_breaks_no_line() -> None:
    out, file = console()
    with PlainView(out) as view:
        view.say("The service is at http://[::1]:8080/health " + "x" * 300)
        view.show(MOMENT)
    assert "\x1b" not in file.getvalue()
    assert file.getvalue().count("\n") == 2
    assert "[::1]" in file.getvalue()


def drawn(moment: Moment) -> str:
    recording = Console(record=True, width=100, file=io.StringIO())
    recording.print(draw(moment))
    return recording.export_text()


def test_the_picture_has_both_sides_and_the_progress() -> None:
    text = drawn(MOMENT)
    for said in ("what it claims", "healthy", "0.6 % of the limit", "31.0 MiB", "memory", "normal"):
        assert said in text
    for said in ("what the kernel knows", "155 MiB", "+75.0 MiB", "124 MiB", "3.40 ms"):
        assert said in text
    assert "10m 00s of 1h 00m" in text
    assert "leaking" in text
    assert "watching" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    "change",
    [
        {"story": 0.0},
        {"story": 7200.0},
        {"story_end": 0.0},
        {"resident_growth": -MIB, "resident_bytes": 0},
        {"claims": replace(CLAIMS, status="unhealthy", health_checks={}, lookup_seconds=0.0)},
    ],
)
def test_every_moment_can_be_drawn_and_told(change: dict[str, float]) -> None:
    moment = replace(MOMENT, **change)  # type: ignore[arg-type]
    assert moment.claims.status in drawn(moment)
    assert moment.claims.status in lines(moment)[0]


def test_the_live_view_redraws_in_place_and_keeps_what_is_said() -> None:
    out, file = console(terminal=True)
    view: View
    with LiveView(out) as view:
        view.say("The service is pid 17")
        view.show(MOMENT)
        view.show(replace(MOMENT, phase="degraded"))
    written = file.getvalue()
    assert "The service is pid 17" in written
    assert "degraded" in written
    assert "\x1b[" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l"), "the cursor is back"


def test_the_live_view_gives_the_cursor_back_when_its_user_fails() -> None:
    out, file = console(terminal=True)
    with pytest.raises(KeyboardInterrupt), LiveView(out):
        raise KeyboardInterrupt
    assert "\x1b[?25h" in file.getvalue()
