"""One exact trace: from the attach to the report, with what is printed meanwhile."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from diagnosis.cli.signals import stop_on_signals
from diagnosis.cli.target import OpenedTarget
from diagnosis.faults.light import FaultsBeside
from diagnosis.lab.ledger import Alignment, LedgerClient, LedgerWindow
from diagnosis.output.exporter import serve
from diagnosis.output.tables import print_top
from diagnosis.report.report import Report, build_report
from diagnosis.report.verdict import SAMPLES_PER_WINDOW
from diagnosis.target.symbols import Symbolizer
from diagnosis.trace.group import Group
from diagnosis.trace.measured import Measured, Names
from diagnosis.trace.tracer import Tracer, Tracing
from diagnosis.trace.window import Ending, OtherProgramError, Sample, measure

if TYPE_CHECKING:
    from diagnosis.trace.snapshot import Snapshot

# Up to this time after its start, a command that becomes another program has only led to that.
BECOMING_SECONDS = 3.0


@dataclass(frozen=True)
class WindowTrace:
    """One process, or several that read as one, traced for a window: see `trace_command` for what is in it."""

    seconds: float | None
    interval: float | None
    top: int
    tracing: Tracing
    listen: str | None
    ledger: str | None
    smallest: int

    def run(self, target: OpenedTarget, console: Console) -> tuple[Report, LedgerWindow | None]:
        """The report, and what the ledger counted in its window where there is one.

        A command that becomes another program right after its start is a shell or its like: that program is meant.
        """
        stopped = stop_on_signals()
        while True:
            try:
                return self._run(target, console, stopped)
            except OtherProgramError:
                if not target.started:
                    raise
                target = target.renewed()
                line = f"pid {target.process.pid} is {target.process.command} now: traced from here on"
                console.print(line, highlight=False, markup=False)

    def _run(
        self, target: OpenedTarget, console: Console, stopped: threading.Event
    ) -> tuple[Report, LedgerWindow | None]:
        process = target.process
        with ExitStack() as stack:
            tracer, symbolizer = self._attach(target, stack, lambda line: console.print(line, markup=False))
            if self.listen:
                stack.callback(serve(tracer, symbolizer, self.listen))
            client = LedgerClient(self.ledger) if self.ledger else None
            if client:
                stack.callback(client.close)
                client.read()  # a wrong address is an error now, and not at the window's end
            if stopped.is_set():
                raise KeyboardInterrupt  # there is no window, and so nothing to report
            until = f"for {self.seconds:g} s, or until Ctrl-C" if self.seconds is not None else "until Ctrl-C"
            if target.started:
                until = f"as {target.started.account.name}, {until}, or until it ends"
            console.print(f"tracing pid {process.pid} ({process.command}) {until}", highlight=False, markup=False)
            alignment = Alignment(client.read) if client else None
            ticker = _Ticker(self, tracer, symbolizer, console=console, stopped=stopped, alignment=alignment)

            def pause(seconds: float) -> bool:
                target.resume()  # now that the window has begun
                faults.refresh()
                return ticker.pause(seconds)

            faults = stack.enter_context(FaultsBeside(process, self.tracing.unwind))
            window = measure(
                tracer,
                symbolizer,
                self.seconds,
                sample_count=SAMPLES_PER_WINDOW,
                pause=pause,
                align=ticker.align,
            )
            if target.started and window.ending is Ending.EXECED and window.seconds < BECOMING_SECONDS:
                raise OtherProgramError(f"pid {process.pid} became another program")
            touched = faults.touched(symbolizer)
            report = build_report(
                tracer,
                window,
                symbolizer,
                touched=touched,
                smallest=self.smallest,
                left_out=self.tracing.min_bytes,
            )
            counted = alignment.window(window.detached) if alignment else None
            if alignment and counted is None:
                console.print(f"the ledger is left out of the report: {alignment.missed}", highlight=False)
            return report, counted

    def _attach(self, target: OpenedTarget, stack: ExitStack, warn: Callable[[str], object]) -> tuple[Measured, Names]:
        """A tracer of one process, or of several that read as one."""
        if target.members is None:
            tracer = stack.enter_context(Tracer(target.process, self.tracing, warn))
            return tracer, stack.enter_context(Symbolizer(target.process))
        group = stack.enter_context(Group(target.process, target.members, self.tracing, warn))
        return group, group


class _Ticker:
    """Waits between samples, and prints what is outstanding meanwhile."""

    def __init__(
        self,
        trace: WindowTrace,
        tracer: Measured,
        symbolizer: Names,
        *,
        console: Console,
        stopped: threading.Event,
        alignment: Alignment | None,
    ) -> None:
        self._trace, self._tracer, self._symbolizer = trace, tracer, symbolizer
        self._console, self._stopped, self._alignment = console, stopped, alignment
        self._first: Snapshot | None = None
        self._next = float("inf")

    def align(self, take: Callable[[], Sample]) -> Sample:
        """Take a sample; from the first one on, what is outstanding is printed."""
        sample = self._alignment(take) if self._alignment else take()
        if self._first is None:
            self._first = sample.snapshot
            if self._trace.interval:
                self._next = self._first.seconds + self._trace.interval
        return sample

    def pause(self, seconds: float) -> bool:
        """Wait; False when it is time to end."""
        until = time.monotonic() + seconds
        while self._next < until:
            if self._stopped.wait(max(0.0, self._next - time.monotonic())):
                return False
            if self._first:
                print_top(self._console, self._tracer, self._symbolizer, self._first, self._trace.top)
            self._next += self._trace.interval or float("inf")
        return not self._stopped.wait(max(0.0, until - time.monotonic()))
