"""The whole lab on this machine: a service that leaks, its visitors, a trace, a verdict, and the grade."""

from __future__ import annotations

import contextlib
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.lab.child import Child
from diagnosis.lab.claims import ClaimsClient, ClaimsWindow
from diagnosis.lab.grade import grade, not_available
from diagnosis.lab.ledger import Alignment, LedgerClient
from diagnosis.lab.service_env import service_environ, visitors_environ
from diagnosis.lab.view import Moment
from diagnosis.report.report import build_report
from diagnosis.report.verdict import SAMPLES_PER_WINDOW
from diagnosis.target.process import Process
from diagnosis.target.symbols import Symbolizer
from diagnosis.trace.tracer import Tracer, Tracing
from diagnosis.trace.window import measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from diagnosis.lab.claims import Claims
    from diagnosis.lab.grade import Grade
    from diagnosis.lab.ledger import LedgerWindow
    from diagnosis.lab.unprivileged import User
    from diagnosis.lab.view import View
    from diagnosis.report.report import Report

LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class RunOptions:
    """How a run goes. ``duration_seconds`` are the story's, before the trace; ``window_seconds`` are real."""

    speed: float
    duration_seconds: float
    window_seconds: float
    chunk_bytes: int
    cap_bytes: int
    allow_session: bool = True


@dataclass(frozen=True)
class Outcome:
    """The report of a run, what the service claimed and its ledger counted meanwhile, and whether they agree.

    ``ledger`` is None where the ledger never rested for as long as a reading took.
    """

    report: Report
    claims: ClaimsWindow
    ledger: LedgerWindow | None
    grade: Grade
    moments: tuple[Moment, ...]


class _Lab:
    """The running parts of a lab, and the moments that were recorded."""

    def __init__(self, options: RunOptions, service: Child, view: View) -> None:
        self._options, self._service, self._view = options, service, view
        event = service.first_event()
        self.http = str(event["http"])
        self.process = Process(service.pid)
        self.claims = ClaimsClient(self.http, str(event["metrics"]))
        self.ledger = LedgerClient(f"http://{event['ledger']}/ledger")
        self._resident_at_start = self.process.resident().total_bytes
        self.step = "watching"
        self._next_look = 0.0
        self._look_seconds = 0.0
        self.moments: list[Moment] = []

    def look(self) -> tuple[float, Claims]:
        """Show the moment; returns the story's time and the claims."""
        self._service.check()
        began = time.monotonic()
        self._next_look = began + LOOK_SECONDS
        try:
            return self._look()
        finally:  # one without an answer takes the longest
            self._look_seconds = time.monotonic() - began

    def _look(self) -> tuple[float, Claims]:
        claims, reading, resident = self.claims.read(), self.ledger.read(), self.process.resident()
        moment = Moment(
            seconds=time.monotonic(),
            story=reading.elapsed_seconds,
            story_end=self._options.duration_seconds,
            phase=reading.phase,
            claims=claims,
            resident_bytes=resident.total_bytes,
            resident_growth=resident.total_bytes - self._resident_at_start,
            step=self.step,
            ledger_bytes=reading.bytes_live,
        )
        self.moments.append(moment)
        self.show(lambda: self._view.show(moment))
        return reading.elapsed_seconds, claims

    def say(self, text: str) -> None:
        """Say something that stays."""
        self.show(lambda: self._view.say(text))

    def show(self, show: Callable[[], None]) -> None:
        """Show something, as long as there is somewhere to show it: a terminal that was closed ends no run."""
        with contextlib.suppress(OSError, LabError):
            show()

    def pause(self, seconds: float) -> bool:
        """Wait, looking meanwhile where there is time for it: the samples of the trace are worth more than a look."""
        until = time.monotonic() + seconds
        if self._next_look < until and self._look_seconds < seconds:
            with contextlib.suppress(LabError):  # a service that is too busy to answer is no reason to stop
                self.look()
        time.sleep(max(0.0, until - time.monotonic()))
        return True

    def claims_now(self) -> Claims:
        """What the service claims: now, or when it last answered."""
        try:
            return self.look()[1]
        except LabError:
            if not self.moments:
                raise
            return self.moments[-1].claims

    def watch(self) -> None:
        """Wait until the story has come to the point where the diagnosis begins."""
        while (story := self.look()[0]) < self._options.duration_seconds:
            left = (self._options.duration_seconds - story) / self._options.speed
            time.sleep(min(LOOK_SECONDS, left))

    def close(self) -> None:
        self.claims.close()
        self.ledger.close()


def run(options: RunOptions, user: User, view: View) -> Outcome:
    """Run the lab. When this returns or raises, no process and no probe of it is left.

    Raises:
        LabError: a part of it failed.
    """
    settings = service_environ(speed=options.speed, chunk_bytes=options.chunk_bytes, cap_bytes=options.cap_bytes)
    with ExitStack() as stack:
        service = stack.enter_context(Child("service", settings, user))
        stack.enter_context(view)
        lab = _Lab(options, service, view)
        stack.callback(lab.close)
        stack.enter_context(Child("service.visitors", visitors_environ(lab.http), user))
        lab.say(f"The service is pid {service.pid}, user {user.name}, at http://{lab.http}/health")
        lab.watch()
        lab.say(f"Tracing pid {service.pid} for {options.window_seconds:g} s")
        lab.step = "tracing"
        with (
            Tracer(lab.process, Tracing(allow_session=options.allow_session), lab.say) as tracer,
            Symbolizer(lab.process) as symbolizer,
        ):
            claims_start = lab.claims_now()
            alignment = Alignment(lab.ledger.read)
            window = measure(
                tracer,
                symbolizer,
                options.window_seconds,
                sample_count=SAMPLES_PER_WINDOW,
                pause=lab.pause,
                align=alignment,
            )
            claims = ClaimsWindow(claims_start, lab.claims_now())
            report = build_report(tracer, window, symbolizer)
    ledger = alignment.window(window.detached)
    if ledger is None:
        result = not_available(alignment.missed)
    elif options.cap_bytes and ledger.end.insert_bytes >= options.cap_bytes:
        result = not_available("the leak came to its --cap within the window, and grew no more")
    else:
        result = grade(report, ledger)
    return Outcome(report, claims, ledger, result, tuple(lab.moments))
