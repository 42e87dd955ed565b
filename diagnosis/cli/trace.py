"""``memleak-lab trace``: trace any process for a while."""

import enum
from pathlib import Path
from typing import Annotated

import typer
from heap_trace import UnwindMode

from diagnosis.base.errors import LabError
from diagnosis.cli.explain import explain_probes
from diagnosis.cli.formats import (
    FailOn,
    Format,
    check_writable,
    fail_on,
    print_capture,
    refuse_terminal,
    write_file,
    write_page,
)
from diagnosis.cli.light import trace_light
from diagnosis.cli.options import (
    WINDOWS,
    allocator_option,
    check_window,
    duration_option,
    html_option,
    on_a_machine_that_can,
    size_option,
)
from diagnosis.cli.origin import origin_of_this
from diagnosis.cli.target import Target
from diagnosis.cli.trace_modes import Mode, choose_mode
from diagnosis.cli.trace_window import WindowTrace
from diagnosis.doctor.preflight import Machine
from diagnosis.output.atomic import write_atomically
from diagnosis.output.document import Capture, report_as_json
from diagnosis.output.html_report.contents import Shown, one_report
from diagnosis.output.tables import error_console, report_console
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
    context: typer.Context,
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
        bool,
        typer.Option(
            "--light", help="Probe nothing: sample one process's page faults and name the code in which it grows."
        ),
    ] = False,
    pair: Annotated[
        bool, typer.Option("--pair", help="Use an entry and a return program, as on kernels before 6.13.")
    ] = False,
    at_entry: Annotated[
        bool, typer.Option("--at-entry", help="Place every probe at its function's entry, whatever it costs.")
    ] = False,
    allocator: Annotated[
        dict | None,  # type: ignore[type-arg] # typer takes no more than that
        allocator_option("--allocator", text="The program's own allocator: the end of this help has an example."),
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
    mode = choose_mode(context)
    refuse_terminal(output)
    check_writable({"--save": save, "--html": html})
    if mode is Mode.EXPLAIN:
        tables = unwind is Unwind.AUTO
        explain_probes(report_console(), target.find(), allocator, at_entry=at_entry, tables=tables)
        return
    machine = Machine()
    if mode is Mode.LIGHT:
        length = duration or DEFAULT_SECONDS
        with on_a_machine_that_can(machine):
            sampled = trace_light(target, length, output, top=top, smallest=smallest, unwind=unwind.mode)
        fail_on(sampled.verdict.answer, failing)
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
    with on_a_machine_that_can(machine), target.opened() as opened:
        report, counted = trace.run(opened, console)
    # The files first: a terminal that was closed does not take them with it.
    capture = Capture(report, origin)
    failed = write_page(html, lambda: one_report(Shown(capture)))
    if save is not None:
        text = report_as_json(capture, ledger=counted, everything=True)
        failed += write_file(save, lambda path: write_atomically(path, text))
    if opened.started:
        console.print(opened.started.ending(COMMAND_END_SECONDS), highlight=False, markup=False)
    print_capture(capture, output, top=top, everything=everything, ledger=counted)
    if failed:
        raise failed[0]
    fail_on(report.verdict.answer, failing)
