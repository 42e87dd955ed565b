"""``memleak-lab trace``: trace any process for a while."""

import enum
import signal
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Annotated

import typer
from heap_trace import UnwindMode
from rich.console import Console

from diagnosis.base.errors import LabError
from diagnosis.base.units import format_size
from diagnosis.cli.options import check_window, duration_option, require_machine, size_option
from diagnosis.doctor.preflight import Machine
from diagnosis.faults.light import sample
from diagnosis.lab.ledger import Alignment, LedgerClient, LedgerWindow
from diagnosis.output.document import report_as_json
from diagnosis.output.exporter import serve
from diagnosis.output.folded import folded
from diagnosis.output.tables import (
    error_console,
    print_light,
    print_placements,
    print_report,
    print_top,
    report_console,
)
from diagnosis.report.report import Report, build_report
from diagnosis.report.verdict import SAMPLES_PER_WINDOW
from diagnosis.target.allocator import find_allocators
from diagnosis.target.process import Process
from diagnosis.target.symbols import Symbolizer
from diagnosis.target.targets import process_of_container, process_of_pod
from diagnosis.target.unwinding import ProcessTables
from diagnosis.trace.tracer import MAX_BLOCKS, Tracer, Tracing
from diagnosis.trace.window import measure

DEFAULT_SECONDS = 30.0
SHORTEST_INTERVAL_SECONDS = 0.2
MOST_BLOCKS = 1 << 26


class Format(enum.StrEnum):
    """How the report is printed."""

    TABLE = "table"
    JSON = "json"
    FOLDED = "folded"


class Unwind(enum.StrEnum):
    """How stacks are taken."""

    AUTO = "auto"
    FP = "fp"

    @property
    def mode(self) -> UnwindMode:
        """What the tracer calls it."""
        return UnwindMode.ON if self is Unwind.AUTO else UnwindMode.OFF


def trace_command(
    *,
    pid: Annotated[int | None, typer.Option(help="The process to trace, as `ps` numbers it here.")] = None,
    container: Annotated[str | None, typer.Option(metavar="NAME", help="A container of Docker or containerd.")] = None,
    pod: Annotated[str | None, typer.Option(metavar="NS/NAME[/CONTAINER]", help="A pod on this node.")] = None,
    duration: Annotated[
        float | None,
        duration_option("--duration", text="How long to trace: 30s, or until Ctrl-C with --listen. Ctrl-C ends it."),
    ] = None,
    interval: Annotated[
        float | None, duration_option("--interval", text="Print what is outstanding this often meanwhile.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Print this many call stacks.")] = 5,
    min_size: Annotated[int, size_option("--min-size", text="Leave out smaller blocks.")] = "0",  # type: ignore[assignment] # typer parses it
    output: Annotated[Format, typer.Option("--format", help="How to print the report.")] = Format.TABLE,
    listen: Annotated[
        str | None, typer.Option(metavar="ADDR:PORT", help="Serve the numbers to Prometheus meanwhile.")
    ] = None,
    ledger: Annotated[
        str | None, typer.Option(metavar="URL", help="The lab service's ledger: align the window with it, for grading.")
    ] = None,
    max_blocks: Annotated[
        int, typer.Option(min=1, max=MOST_BLOCKS, help="Live blocks that can be tracked at a time.")
    ] = MAX_BLOCKS,
    light: Annotated[
        bool, typer.Option("--light", help="Probe nothing: sample page faults and name the code in which it grows.")
    ] = False,
    pair: Annotated[
        bool, typer.Option("--pair", help="Use an entry and a return program, as on kernels before 6.13.")
    ] = False,
    at_entry: Annotated[
        bool, typer.Option("--at-entry", help="Place every probe at its function's entry, whatever it costs.")
    ] = False,
    unwind: Annotated[
        Unwind, typer.Option(help="Take stacks by unwind tables, or for comparison by frame pointers alone.")
    ] = Unwind.AUTO,
    explain: Annotated[bool, typer.Option("--explain", help="Print where each probe goes and why, and end.")] = False,
) -> None:
    """Trace any process: every allocator call of all its threads, from now on, exactly."""
    if duration is not None:
        check_window("--duration", duration)
    if interval is not None and interval < SHORTEST_INTERVAL_SECONDS:
        raise LabError(
            f"--interval is {interval:g} s: it must be {SHORTEST_INTERVAL_SECONDS:g} s or more", "try --interval 5s"
        )
    process = _find(pid, container, pod)
    if explain:
        print_placements(report_console(), process.pid, find_allocators(process, at_entry=at_entry))
        if unwind is Unwind.AUTO:
            _explain_tables(report_console(), process)
        return
    require_machine(Machine())
    if light:
        _light(process, duration or DEFAULT_SECONDS, output, top)
        return
    seconds = duration if duration is not None or listen else DEFAULT_SECONDS
    tracer = Tracing(
        max_blocks=max_blocks, min_bytes=min_size, allow_session=not pair, at_entry=at_entry, unwind=unwind.mode
    )
    trace = _Trace(seconds, interval, top, tracer, listen, ledger)
    # What is not the report goes to standard error: the report can be piped on.
    report, counted = trace.run(process, error_console())
    match output:
        case Format.JSON:
            sys.stdout.write(report_as_json(report, ledger=counted))
        case Format.FOLDED:
            outstanding = ((stack.frames, stack.outstanding_bytes) for stack in report.stacks)
            sys.stdout.writelines(f"{line}\n" for line in folded(report.target, outstanding))
        case Format.TABLE:
            print_report(report_console(), report, top)


def _explain_tables(console: Console, process: Process) -> None:
    tables = ProcessTables(process)
    used = tables.needed
    size = format_size(used.bytes)
    console.print(
        f"unwind tables of {tables.objects} object files: {used.rows:,} rows, {size}, read in {tables.seconds:.2f} s",
        highlight=False,
    )


def _light(process: Process, seconds: float, output: Format, top: int) -> None:
    stopped = _stop_on_signals()
    error_console().print(f"sampling pid {process.pid} for {seconds:g} s, or until Ctrl-C", highlight=False)
    with Symbolizer(process) as symbolizer:
        report = sample(process, symbolizer, seconds, lambda wait: not stopped.wait(wait))
    match output:
        case Format.JSON:
            sys.stdout.write(report.to_json())
        case Format.FOLDED:
            stacks = ((stack.frames, round(stack.touched_bytes)) for stack in report.stacks)
            sys.stdout.writelines(f"{line}\n" for line in folded(report.target, stacks))
        case Format.TABLE:
            print_light(report_console(), report, top)


def _find(pid: int | None, container: str | None, pod: str | None) -> Process:
    named = [name for name in (pid, container, pod) if name is not None]
    if len(named) != 1:
        raise LabError("trace needs one target", "name it by --pid P, --container NAME or --pod NAMESPACE/NAME")
    if container is not None:
        return process_of_container(container)
    if pod is not None:
        return process_of_pod(pod)
    return Process(pid or 0)


@dataclass(frozen=True)
class _Trace:
    seconds: float | None
    interval: float | None
    top: int
    tracing: Tracing
    listen: str | None
    ledger: str | None

    def run(self, process: Process, console: Console) -> tuple[Report, LedgerWindow | None]:
        """The report, and what the ledger counted in its window where there is one."""
        stopped = _stop_on_signals()
        with ExitStack() as stack:
            tracer = stack.enter_context(Tracer(process, self.tracing))
            symbolizer = stack.enter_context(Symbolizer(process))
            if self.listen:
                stack.callback(serve(tracer, symbolizer, self.listen))
            client = LedgerClient(self.ledger) if self.ledger else None
            if client:
                stack.callback(client.close)
            until = f"for {self.seconds:g} s, or until Ctrl-C" if self.seconds is not None else "until Ctrl-C"
            console.print(f"tracing pid {process.pid} ({process.command}) {until}", highlight=False, markup=False)
            ticker = _Ticker(self, tracer, symbolizer, console, stopped)
            measure_for = partial(
                measure, tracer, symbolizer, self.seconds, sample_count=SAMPLES_PER_WINDOW, pause=ticker.pause
            )
            if client is None:
                return build_report(tracer, measure_for(), symbolizer), None
            alignment = Alignment(client.read)
            report = build_report(tracer, measure_for(align=alignment), symbolizer)
            return report, alignment.window()


class _Ticker:
    """Waits between samples, and prints what is outstanding meanwhile."""

    def __init__(
        self, trace: _Trace, tracer: Tracer, symbolizer: Symbolizer, console: Console, stopped: threading.Event
    ) -> None:
        self._trace, self._tracer, self._symbolizer = trace, tracer, symbolizer
        self._console, self._stopped = console, stopped
        self._first = tracer.snapshot()
        self._next = self._first.seconds + trace.interval if trace.interval else float("inf")

    def pause(self, seconds: float) -> bool:
        """Wait; False when it is time to end."""
        until = time.monotonic() + seconds
        while self._next < until:
            if self._stopped.wait(max(0.0, self._next - time.monotonic())):
                return False
            print_top(self._console, self._tracer, self._symbolizer, self._first, self._trace.top)
            self._next += self._trace.interval or float("inf")
        return not self._stopped.wait(max(0.0, until - time.monotonic()))


def _stop_on_signals() -> threading.Event:
    """An event that Ctrl-C sets. A second Ctrl-C ends without a report."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopped
