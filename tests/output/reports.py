"""Reports for the pages of these tests: a leak, the same after its fix, and one whose every text is hostile."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from diagnosis.lab.claims import Claims, ClaimsWindow
from diagnosis.lab.grade import Grade
from diagnosis.lab.view import Moment
from diagnosis.output.document import Capture, Origin
from diagnosis.report.account import Traced, account
from diagnosis.report.report import Report, ResidentMemory, StackReport, Target
from diagnosis.report.summary import Verdict
from diagnosis.report.timeline import TimelinePoint
from diagnosis.report.verdict import Answer
from diagnosis.target.memory import Memory, Use
from diagnosis.target.symbols import Frame

MIB = 1 << 20

# What HTML, JSON in a script, a terminal and a reader of text would each take for something else.
HOSTILE = "</script><img src=x onerror=alert(1)>"
OTHERS = (
    "<!--<script>",
    "&lt;b&gt; ${title} $data",
    "'\"><svg onload=alert(2)>",
    "a\u2028b\u2029c",
    "\\u003cimg>",
    "%s{0}",
)


def frame(function: str, file: str = "", line: int = 0, module: str = "shop") -> Frame:
    return Frame(function, module, file, line, 0x1234)


MAIN = frame("main", "/src/main.c", 8)
START = frame("__libc_start_main", module="libc.so.6")
HANDLE = replace(frame("handle_request", "/src/server.py", 40, "python"), python=True)
EVALUATE = replace(frame("_PyEval_EvalFrame", module="python3.13"), interpreter=True)
INSERT = frame("cache_insert", "/src/cache.c", 82)
REFRESH = frame("cache_refresh", "/src/cache.c", 109)
MALLOC = frame("xmalloc", "/src/util.c", 3)


def stack(size: int, *frames: Frame, broken: bool = False) -> StackReport:
    return StackReport(
        frames=frames,
        broken=broken,
        outstanding_bytes=size,
        allocations=64,
        allocated_bytes=size,
        frees=0,
        leak_ratio=1.0,
        leak_ratio_blocks=1.0,
        bytes_per_minute=size * 6.0,
        oldest_seconds=9.5,
        share_of_resident_growth=0.5,
    )


def report(*stacks: StackReport, verdict: Verdict, notes: tuple[str, ...] = (), name: str = "shop --fast") -> Report:
    """A report of ten seconds."""
    before = Memory(anonymous=100 * MIB)
    after = Memory(anonymous=140 * MIB, file=2 * MIB, uses=Counter({Use.HEAP: 40 * MIB}))
    return Report(
        target=Target(4711, name),
        window_seconds=10.0,
        readings=25,
        stacks=stacks,
        truth=ResidentMemory(120 * MIB, 162 * MIB, 100 * MIB, 140 * MIB),
        account=account(before, after, Traced(36 * MIB, 0)),
        lost={"blocks": 0, "deep_stack": 3},
        notes=notes,
        verdict=verdict,
        timeline=tuple(TimelinePoint(i / 2, i * 2 * MIB, (120 + i * 2) * MIB) for i in range(21)),
    )


ORIGIN = Origin("0.1.0", "6.12.1", "x86_64", "host", 1_800_000_000.0, {"duration": 10.0})
LEAK = Capture(
    report(
        stack(32 * MIB, MALLOC, INSERT, REFRESH, HANDLE, EVALUATE, MAIN, START),
        stack(4 * MIB, frame("render", "/src/page.c", 12), HANDLE, MAIN, START),
        stack(2 * MIB, frame("parse", "/src/parse.c", 5), broken=True),
        stack(0, frame("idle")),
        verdict=Verdict(Answer.LEAK, "cache_insert", "cache_refresh", "WARNING: cache_insert leaks 192 MiB a minute"),
        notes=("3 allocations have deeper stacks than the frames that are kept.",),
    ),
    ORIGIN,
)
FIXED = Capture(
    report(
        stack(4 * MIB, frame("render", "/src/page.c", 12), HANDLE, MAIN, START),
        verdict=Verdict(Answer.NO_LEAK, "", "", "No leak found: nothing kept growing"),
    ),
    ORIGIN,
)
EMPTY = Capture(report(verdict=Verdict(Answer.NO_LEAK, "", "", "No leak found: not one allocation was seen")), ORIGIN)


def hostile() -> Capture:
    """Every text that a target, a file or a host chooses."""
    evil = frame(HOSTILE, f"/src/{HOSTILE}.c", 3, HOSTILE)
    others = [frame(text, f"/src/{text}", 1, text) for text in OTHERS]
    made = report(
        stack(8 * MIB, evil, *others),
        stack(4 * MIB, *reversed(others)),
        verdict=Verdict(Answer.LEAK, HOSTILE, OTHERS[0], f"WARNING: {HOSTILE} leaks", f"decides {HOSTILE}"),
        notes=(f"note {HOSTILE}", *OTHERS),
        name=f"{HOSTILE} {OTHERS[0]}",
    )
    return Capture(
        replace(made, lost={HOSTILE: 1}),
        Origin(HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1.0, {HOSTILE: HOSTILE}),
    )


def claims(resident: int, *, status: str = "healthy") -> Claims:
    return Claims(status, "All is well", 0.6, resident, {"memory": "normal"}, 0.004)


CLAIMS = ClaimsWindow(claims(31 * MIB), claims(31 * MIB))
RIGHT = Grade(right=True, text="RIGHT: cache_insert, 33,554,432 bytes")


def moments(number: int = 40, *, phase: str = "degraded", status: str = "healthy") -> tuple[Moment, ...]:
    """A run: memory grows, and the claims do not."""
    return tuple(
        Moment(
            seconds=float(i),
            story=i * 90.0,
            story_end=3600.0,
            phase="leaking" if i < number // 2 else phase,
            claims=claims(31 * MIB, status=status),
            resident_bytes=(31 + 10 * i) * MIB,
            resident_growth=10 * i * MIB,
            step="watching" if i < number - 5 else "tracing",
            ledger_bytes=10 * i * MIB,
        )
        for i in range(number)
    )
