"""``memleak-lab trace``: trace any process for a while."""

import enum
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, cast

import typer
from heap_trace import UnwindMode
from rich.console import Console

from diagnosis.base.errors import LabError
from diagnosis.base.units import format_size
from diagnosis.cli.formats import (
    FailOn,
    Format,
    check_writable,
    emit,
    fail_on,
    print_capture,
    refuse_terminal,
    write_file,
)
from diagnosis.cli.options import (
    allocator_option,
    check_window,
    duration_option,
    refuse_together,
    require_machine,
    size_option,
)
from diagnosis.cli.origin import origin_of_this
from diagnosis.cli.target import OpenedTarget, Target
from diagnosis.doctor.preflight import Machine
from diagnosis.faults.light import FaultsBeside, LightReport, sample
from diagnosis.lab.ledger import Alignment, LedgerClient, LedgerWindow
from diagnosis.output.document import Capture, light_report_as_json, report_as_json
from diagnosis.output.exporter import serve
from diagnosis.output.folded import folded
from diagnosis.output.tables import error_console, print_light, print_placements, print_top, report_console
from diagnosis.report.report import Report, build_report
from diagnosis.report.verdict import SAMPLES_PER_WINDOW
from diagnosis.target.allocator import find_allocators
from diagnosis.target.custom_allocator import EXAMPLE
from diagnosis.target.process import Process
from diagnosis.target.symbols import Symbolizer
from diagnosis.target.unwinding import ProcessTables
from diagnosis.trace.group import Group
from diagnosis.trace.tracer import MAX_BLOCKS, Tracer, Tracing
from diagnosis.trace.window import Sample, measure

if TYPE_CHECKING:
    from diagnosis.trace.tracer import Snapshot

DEFAULT_SECONDS = 30.0
SHORTEST_INTERVAL_SECONDS = 0.2
MOST_BLOCKS = 1 << 26

# How long a command that was interrupted may take to end, until it is said to run on.
COMMAND_END_SECONDS = 2.0


class Unwind(enum.StrEnum):
    """How stacks are taken."""

    AUTO = "auto"
    FP = "fp"

    @property
    def mode(self) -> UnwindMode:
        """What the tracer calls it."""
        return UnwindMode.ON if self is Unwind.AUTO else UnwindMode.OFF


def trace_command(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND...", help="Start this program, and trace it from its first allocation on."),
    ] = None,
    *,
    pid: Annotated[
        int | None, typer.Option("--pid", "-p", help="The process to trace, as `ps` numbers it here.")
    ] = None,
    container: Annotated[str | None, typer.Option(metavar="NAME", help="A container of Docker or containerd.")] = None,
    pod: Annotated[str | None, typer.Option(metavar="NS/NAME[/CONTAINER]", help="A pod on this node.")] = None,
    duration: Annotated[
        float | None,
        duration_option(
            "--duration", text="How long to trace: 30s; with --listen or a COMMAND until Ctrl-C, which always ends it."
        ),
    ] = None,
    interval: Annotated[
        float | None, duration_option("--interval", text="Print what is outstanding this often meanwhile.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Print this many call stacks.")] = 5,
    min_size: Annotated[int, size_option("--min-size", text="Leave out smaller blocks.")] = "0",  # type: ignore[assignment] # typer parses it
    smallest: Annotated[
        int, size_option("--smallest-growth", text="Growth below this in the window is no leak: 64KiB.")
    ] = "64KiB",  # type: ignore[assignment]
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
    max_rate: Annotated[
        float | None,
        typer.Option(min=1, metavar="CALLS", help="Detach when the process makes more allocator calls a second."),
    ] = None,
    children: Annotated[
        bool,
        typer.Option("--children", help="Trace what the process starts as well, also later: workers, forks."),
    ] = False,
    light: Annotated[
        bool, typer.Option("--light", help="Probe nothing: sample page faults and name the code in which it grows.")
    ] = False,
    pair: Annotated[
        bool, typer.Option("--pair", help="Use an entry and a return program, as on kernels before 6.13.")
    ] = False,
    at_entry: Annotated[
        bool, typer.Option("--at-entry", help="Place every probe at its function's entry, whatever it costs.")
    ] = False,
    allocator: Annotated[
        dict | None,  # type: ignore[type-arg] # typer takes no more than that
        allocator_option("--allocator", text=f"Functions of the program's own allocator: '{EXAMPLE}'."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also the stacks that hold nothing.")] = False,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Keep the report: see memleak-lab report.", dir_okay=False)
    ] = None,
    failing: Annotated[
        FailOn | None, typer.Option("--fail-on", help="Exit with status 3 on a leak, or on any growth.")
    ] = None,
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
    target = Target(pid, container, pod, tuple(command or ()), children)
    target.check(started_first={"--light": light, "--explain": explain})
    exact = {
        "--listen": listen,
        "--ledger": ledger,
        "--interval": interval,
        "--save": save,
        "--all": everything,
        "--pair": pair,
        "--at-entry": at_entry,
        "--min-size": min_size,
        "--max-blocks": max_blocks != MAX_BLOCKS,
        "--max-rate": max_rate,
        "--allocator": allocator if light else None,
    }
    refuse_together("--light", light, exact)
    refuse_together("--light", light, {"--explain": explain, "--format": output in {Format.PPROF, Format.SPEEDSCOPE}})
    refuse_together(
        "--explain", explain, {name: exact[name] for name in ("--listen", "--ledger", "--interval", "--save")}
    )
    refuse_terminal(output)
    check_writable("--save", save)
    if explain:
        process = target.find()
        print_placements(report_console(), process.pid, find_allocators(process, allocator, at_entry=at_entry))
        if unwind is Unwind.AUTO:
            _explain_tables(report_console(), process)
        return
    require_machine(Machine())
    if light:
        verdict = _light(target.find(), duration or DEFAULT_SECONDS, output, top, smallest).verdict
        fail_on(verdict.answer, failing)
        return
    seconds = duration if duration is not None or listen or command else DEFAULT_SECONDS
    tracer = Tracing(
        max_blocks=max_blocks,
        min_bytes=min_size,
        allow_session=not pair,
        at_entry=at_entry,
        max_rate=max_rate,
        custom=allocator or {},
        unwind=unwind.mode,
    )
    trace = _Trace(seconds, interval, top, tracer, listen, ledger, smallest)
    # What is not the report goes to standard error: the report can be piped on.
    options = {"duration": seconds, "min_size": min_size, "max_blocks": max_blocks, "smallest_growth": smallest}
    origin = origin_of_this({**options, "pair": pair, "at_entry": at_entry})
    console = error_console()
    with target.opened() as opened:
        report, counted = trace.run(opened, console)
    if opened.started:
        console.print(opened.started.ending(COMMAND_END_SECONDS), highlight=False, markup=False)
    capture = Capture(report, origin)
    failed = []
    if save is not None:
        text = report_as_json(capture, ledger=counted, everything=True)
        failed += write_file(save, lambda path: path.write_text(text))
    print_capture(capture, output, top=top, everything=everything, ledger=counted)
    if failed:
        raise failed[0]
    fail_on(report.verdict.answer, failing)


def _explain_tables(console: Console, process: Process) -> None:
    tables = ProcessTables(process)
    used = tables.needed
    size = format_size(used.bytes)
    console.print(
        f"unwind tables of {tables.objects} object files: {used.rows:,} rows, {size}, read in {tables.seconds:.2f} s",
        highlight=False,
    )


def _light(process: Process, seconds: float, output: Format, top: int, smallest: int) -> LightReport:
    stopped = _stop_on_signals()
    error_console().print(f"sampling pid {process.pid} for {seconds:g} s, or until Ctrl-C", highlight=False)
    with Symbolizer(process) as symbolizer:
        report = sample(process, symbolizer, seconds, lambda wait: not stopped.wait(wait), smallest=smallest)
    match output:
        case Format.JSON:
            options = {"light": True, "duration": seconds, "smallest_growth": smallest}
            emit(light_report_as_json(report, origin_of_this(options)))
        case Format.FOLDED:
            stacks = ((stack.frames, round(stack.touched_bytes)) for stack in report.stacks)
            emit("".join(f"{line}\n" for line in folded(report.target, stacks)))
        case _:
            print_light(report_console(), report, top)
    return report


@dataclass(frozen=True)
class _Trace:
    seconds: float | None
    interval: float | None
    top: int
    tracing: Tracing
    listen: str | None
    ledger: str | None
    smallest: int

    def run(self, target: OpenedTarget, console: Console) -> tuple[Report, LedgerWindow | None]:
        """The report, and what the ledger counted in its window where there is one."""
        stopped = _stop_on_signals()
        process = target.process
        with ExitStack() as stack:
            tracer, symbolizer = self._attach(target, stack, lambda line: console.print(line, markup=False))
            if self.listen:
                stack.callback(serve(tracer, symbolizer, self.listen))
            client = LedgerClient(self.ledger) if self.ledger else None
            if client:
                stack.callback(client.close)
                client.read()  # a wrong address is an error now, and not at the window's end
            until = f"for {self.seconds:g} s, or until Ctrl-C" if self.seconds is not None else "until Ctrl-C"
            if target.started:
                until = f"as {target.started.account.name}, {until}, or until it ends"
            console.print(f"tracing pid {process.pid} ({process.command}) {until}", highlight=False, markup=False)
            alignment = Alignment(client.read) if client else None
            ticker = _Ticker(self, tracer, symbolizer, console=console, stopped=stopped, alignment=alignment)

            def pause(seconds: float) -> bool:
                target.resume()  # now that the window has begun
                return ticker.pause(seconds)

            faults = stack.enter_context(FaultsBeside(process.pid))
            window = measure(
                tracer,
                symbolizer,
                self.seconds,
                sample_count=SAMPLES_PER_WINDOW,
                pause=pause,
                align=ticker.align,
            )
            touched = faults.touched(symbolizer)
            report = build_report(tracer, window, symbolizer, touched=touched, smallest=self.smallest)
            return report, alignment.window() if alignment else None

    def _attach(
        self, target: OpenedTarget, stack: ExitStack, warn: Callable[[str], object]
    ) -> tuple[Tracer, Symbolizer]:
        """A tracer of one process, or of several that read as one."""
        if target.members is None:
            tracer = stack.enter_context(Tracer(target.process, self.tracing, warn))
            return tracer, stack.enter_context(Symbolizer(target.process))
        group = stack.enter_context(Group(target.process, target.members, self.tracing))
        return cast("Tracer", group), cast("Symbolizer", group)


class _Ticker:
    """Waits between samples, and prints what is outstanding meanwhile."""

    def __init__(
        self,
        trace: _Trace,
        tracer: Tracer,
        symbolizer: Symbolizer,
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
