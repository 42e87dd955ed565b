"""``memleak-lab run``: the whole lab on this machine."""

import math
from pathlib import Path
from typing import Annotated

import typer
from catalog_cache import RANGES, OptionError, Options

from diagnosis.base.errors import LabError
from diagnosis.base.units import MIB, format_size, write_size
from diagnosis.cli.formats import check_writable, write_file, write_page
from diagnosis.cli.options import (
    SHORTEST_WINDOW_SECONDS,
    WINDOWS,
    check_window,
    duration_option,
    html_option,
    require_machine,
    size_option,
)
from diagnosis.cli.origin import LEAK_SOURCES, origin_of_this
from diagnosis.cli.status import conclude
from diagnosis.doctor.preflight import Machine
from diagnosis.lab.chart import draw_chart, require_plotting
from diagnosis.lab.run import RunOptions, run
from diagnosis.lab.unprivileged import choose_user
from diagnosis.lab.view import LiveView, PlainView
from diagnosis.output.atomic import write_atomically
from diagnosis.output.document import Capture, report_as_json
from diagnosis.output.html_report.contents import Shown, one_report
from diagnosis.output.tables import print_grade, print_report, report_console


def _sizes(option: str) -> str:
    low, high, _ = RANGES[option]
    return f"{write_size(int(low))} to {write_size(int(high))}"


# A leak in fewer steps is not told from chance: see LARGEST_STEP in diagnosis/report/trend.py.
REFRESHES_OF_A_TREND = 4
# The leak's own defaults and ranges, but for the speed: this run is to end within minutes.
LEAK = Options()
SPEEDS = f"{RANGES['speed'].low:g} to {RANGES['speed'].high:g}"
CHUNKS = f"{_sizes('chunk_bytes')}, a divisor of {write_size(LEAK.refresh_bytes)}"
CAPS = _sizes("cap_bytes")


def run_command(
    *,
    speed: Annotated[
        float, typer.Option(help=f"The story runs this many times faster than real time: {SPEEDS}.")
    ] = 60.0,
    duration: Annotated[
        float,
        duration_option("--duration", text="The story's time before the trace: 1h of it takes a minute at speed 60."),
    ] = "1h",  # type: ignore[assignment] # typer parses the default as it parses the option
    window: Annotated[float, duration_option("--window", text=f"How long to trace, in real time: {WINDOWS}.")] = "10s",  # type: ignore[assignment]
    chunk: Annotated[int, size_option("--chunk", text=f"Size of one leaked block: {CHUNKS}.")] = write_size(
        LEAK.chunk_bytes
    ),  # type: ignore[assignment]
    cap: Annotated[
        int, size_option("--cap", text=f"The leak stops at this size, {CAPS}; 0 is a service without a leak.")
    ] = write_size(LEAK.cap_bytes),  # type: ignore[assignment]
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write the report here.", dir_okay=False)
    ] = None,
    html: Annotated[Path | None, html_option()] = None,
    chart: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg", help="Draw claims against truth here (or FILE.png).", dir_okay=False),
    ] = None,
    pair: Annotated[
        bool, typer.Option("--pair", help="Trace with an entry and a return program, as on kernels before 6.13.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a live view.")] = False,
) -> None:
    """Run the whole lab on this machine: the leak, the claims, the diagnosis and the grade."""
    try:
        options = Options(speed=speed, chunk_bytes=chunk, cap_bytes=cap)
    except OptionError as error:
        raise _as_typed(error) from error
    check_window("--window", window)
    _check_trend(window, options)
    _check_cap(duration, window, options)
    check_writable({"--report": report, "--html": html, "--chart": chart})
    if chart is not None:
        require_plotting(chart)
    console = report_console()
    machine = Machine()
    require_machine(machine)
    user = choose_user(machine.environ, machine.euid)
    origin = origin_of_this({"speed": speed, "duration": duration, "window": window, "chunk": chunk, "cap": cap})
    view = LiveView(console) if console.is_terminal and not plain else PlainView(console)
    outcome = run(RunOptions(speed, duration, window, chunk, cap, allow_session=not pair), user, view)
    # The files first: a terminal that was closed does not take them with it.
    capture = Capture(outcome.report, origin)
    failed = write_page(
        html, lambda: one_report(Shown(capture, outcome.claims, outcome.moments, outcome.grade, LEAK_SOURCES))
    )
    if report is not None:
        text = report_as_json(capture, outcome.claims, outcome.ledger, outcome.grade)
        failed += write_file(report, lambda path: write_atomically(path, text))
    if chart is not None:
        failed += write_file(
            chart, lambda path: write_atomically(path, draw_chart(path, outcome.moments, outcome.report))
        )
    print_report(console, outcome.report, claims=outcome.claims)
    if failed:
        print_grade(console, outcome.grade)
        raise failed[0]
    conclude(console, outcome.grade)


def _as_typed(error: OptionError) -> LabError:
    """What the leak's binding refuses, with the option's name and units as they are typed here."""
    option, must, example = {
        "speed": ("--speed", SPEEDS, "60"),
        "chunk_bytes": ("--chunk", CHUNKS, write_size(LEAK.chunk_bytes)),
        "cap_bytes": ("--cap", CAPS, write_size(LEAK.cap_bytes)),
    }[error.option]
    value = f"{error.value:g}" if error.option == "speed" else write_size(int(error.value))
    return LabError(f"{option} is {value}: it must be {must}", f"try {option} {example}")


def _check_trend(window: float, options: Options) -> None:
    """Raise a LabError for a window in which the leak takes too few steps to be seen."""
    needed = REFRESHES_OF_A_TREND * options.period_seconds / options.speed
    if options.cap_bytes and window < needed:
        raise LabError(
            f"--window is {window:g} s: at speed {options.speed:g} the leak grows every"
            f" {options.period_seconds / options.speed:g} s, and a trend takes {REFRESHES_OF_A_TREND} such steps",
            f"--window {needed:g}s, or a higher --speed",
        )


def _check_cap(duration: float, window: float, options: Options) -> None:
    """Raise a LabError for a leak that comes to its end before the window does: there would be no trend to see."""
    leaking = duration + window * options.speed - options.start_delay_seconds
    leaked = int(leaking / options.period_seconds) * options.refresh_bytes
    if not 0 < options.cap_bytes <= leaked:
        return
    room = math.ceil(options.cap_bytes / options.refresh_bytes) * options.period_seconds + options.start_delay_seconds
    longest = math.ceil((room - duration) / options.speed) - 1
    enough = f"--cap {math.ceil(leaked / MIB * 1.1)}MiB"
    raise LabError(
        f"--cap is {format_size(options.cap_bytes)}: the leak comes to {format_size(leaked)} by the window's end",
        f"--window {longest}s, or {enough}"
        if longest >= max(SHORTEST_WINDOW_SECONDS, REFRESHES_OF_A_TREND * options.period_seconds / options.speed)
        else f"{enough}, or a shorter --duration",
    )
