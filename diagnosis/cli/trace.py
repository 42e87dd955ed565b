"""``memleak-lab trace``: trace any process for a while."""

import enum
from pathlib import Path
from typing import Annotated

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
    write_page,
)
from diagnosis.cli.options import (
    WINDOWS,
    allocator_option,
    check_window,
    duration_option,
    html_option,
    refuse_together,
    require_machine,
    size_option,
)
from diagnosis.cli.origin import origin_of_this
from diagnosis.cli.signals import stop_on_signals
from diagnosis.cli.target import Target
from diagnosis.cli.trace_window import WindowTrace
from diagnosis.doctor.preflight import Machine
from diagnosis.faults.light import LightReport, sample
from diagnosis.output.atomic import write_atomically
from diagnosis.output.document import Capture, light_report_as_json, report_as_json
from diagnosis.output.folded import folded
from diagnosis.output.html_report.contents import Shown, one_report
from diagnosis.output.tables import error_console, print_light, print_placements, report_console
from diagnosis.target.allocator import find_allocators
from diagnosis.target.custom_allocator import EXAMPLE
from diagnosis.target.process import Process
from diagnosis.target.python import find_python
from diagnosis.target.symbols import Symbolizer
from diagnosis.target.unwinding import ProcessTables
from diagnosis.trace.tracer import MAX_BLOCKS, Tracing

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
    pod: Annotated[
        str | None,
        typer.Option(metavar="NS/NAME[/CONTAINER]", help="A pod on this node: its first container, or this one."),
    ] = None,
    duration: Annotated[
        float | None,
        duration_option(
            "--duration",
            text=f"How long to trace, {WINDOWS}: 30s; with --listen or a COMMAND until Ctrl-C, which always ends it.",
        ),
    ] = None,
    interval: Annotated[
        float | None,
        duration_option(
            "--interval",
            text=f"Print what is outstanding this often meanwhile: {SHORTEST_INTERVAL_SECONDS:g}s or more.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Print this many call stacks.")] = 5,
    min_size: Annotated[int, size_option("--min-size", text="Leave out smaller blocks.")] = "0",  # type: ignore[assignment] # typer parses it
    smallest: Annotated[
        int, size_option("--smallest-growth", text="A call site that grew less is not named by itself: 64KiB.")
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
    html: Annotated[Path | None, html_option()] = None,
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
        "--html": html,
        "--all": everything,
        "--pair": pair,
        "--at-entry": at_entry,
        "--min-size": min_size,
        "--max-blocks": max_blocks != MAX_BLOCKS,
        "--max-rate": max_rate,
        "--allocator": allocator if light else None,
    }
    refuse_together("--light", light, exact)
    if light and failing is FailOn.LEAK:
        raise LabError("--light sees no frees, and never says leak", "use --fail-on growth with --light")
    refuse_together("--light", light, {"--explain": explain, "--format": output in {Format.PPROF, Format.SPEEDSCOPE}})
    refuse_together(
        "--explain", explain, {name: exact[name] for name in ("--listen", "--ledger", "--interval", "--save", "--html")}
    )
    refuse_terminal(output)
    check_writable("--save", save)
    check_writable("--html", html)
    if explain:
        process = target.find()
        print_placements(report_console(), process.pid, find_allocators(process, allocator, at_entry=at_entry))
        if unwind is Unwind.AUTO:
            _explain_tables(report_console(), process)
        _explain_python(report_console(), process)
        return
    require_machine(Machine())
    if light:
        verdict = _light(
            target.find(), duration or DEFAULT_SECONDS, output, top=top, smallest=smallest, unwind=unwind.mode
        ).verdict
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
    trace = WindowTrace(seconds, interval, top, tracer, listen, ledger, smallest)
    # What is not the report goes to standard error: the report can be piped on.
    options = {"duration": seconds, "min_size": min_size, "max_blocks": max_blocks, "smallest_growth": smallest}
    origin = origin_of_this({**options, "pair": pair, "at_entry": at_entry})
    console = error_console()
    with target.opened() as opened:
        report, counted = trace.run(opened, console)
    if opened.started:
        console.print(opened.started.ending(COMMAND_END_SECONDS), highlight=False, markup=False)
    capture = Capture(report, origin)
    failed = write_page(html, lambda: one_report(Shown(capture)))
    if save is not None:
        text = report_as_json(capture, ledger=counted, everything=True)
        failed += write_file(save, lambda path: write_atomically(path, text))
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


def _explain_python(console: Console, process: Process) -> None:
    found = find_python(process)
    if found.interpreter:
        console.print(f"Python functions are named: Python {found.interpreter.version}", highlight=False)
    elif found.reason:
        console.print(f"Python functions are not named: {found.reason}", highlight=False)


def _light(
    process: Process, seconds: float, output: Format, *, top: int, smallest: int, unwind: UnwindMode
) -> LightReport:
    stopped = stop_on_signals()
    error_console().print(f"sampling pid {process.pid} for {seconds:g} s, or until Ctrl-C", highlight=False)
    with Symbolizer(process) as symbolizer:
        report = sample(
            process, symbolizer, seconds, lambda wait: not stopped.wait(wait), smallest=smallest, unwind=unwind
        )
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
