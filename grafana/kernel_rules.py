"""What the kernel knows, under one name wherever the lab runs, and the alerts that would have caught it.

Names: `level:metric:operation`. At level ``pod`` series carry namespace and pod, which are empty where there are no
pods; at level ``function`` also container, command, function, caller and module.

Two sources know a container's memory: the kubelet's cAdvisor, and the tracer's memleak_resident_bytes on plain Docker.
Two know who holds it: the tracer (`memleak-lab trace --listen`) and this project's gadget, in the vocabulary of
vocabulary.py. The gadget knows no names: its function is a file and the offset in it, and its caller is empty. Where
both watch one process its blocks are listed twice, under either name; figures of a pod are those of the one that saw
more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import vocabulary
from grafana.expressions import CONTAINER
from grafana.pace import MINUTE, duration
from grafana.rules import Alert, Group, Recording
from grafana.thresholds import (
    GROWTH_NOTED_BYTES,
    HELD_HIGH_BYTES,
    LEAK_RATIO_HIGH,
    TIME_LEFT_SHORT_SECONDS,
    UNCLAIMED_HIGH_BYTES,
)

if TYPE_CHECKING:
    from grafana.pace import Pace

TEAM: Final = "kernel"

CLAIMED: Final = "pod:memleak_claimed_bytes:max"
RESIDENT: Final = "pod:memleak_resident_bytes:max"
WORKING_SET: Final = "pod:memleak_working_set_bytes:max"
LIMIT: Final = "pod:memleak_limit_bytes:min"
UNCLAIMED: Final = "pod:memleak_unclaimed_bytes:max"
GROWTH: Final = "pod:memleak_resident_bytes:deriv"
TIME_LEFT: Final = "pod:memleak_time_left_seconds:min"
OUTSTANDING: Final = "pod:memleak_outstanding_bytes:sum"
OUTSTANDING_GROWTH: Final = "pod:memleak_outstanding_bytes:deriv"
EXPLAINED: Final = "pod:memleak_growth_explained:ratio"
HELD: Final = "function:memleak_outstanding_bytes:max"
HELD_GROWTH: Final = "function:memleak_outstanding_bytes:deriv"
TAKEN: Final = "function:memleak_allocations:max"
GIVEN_BACK: Final = "function:memleak_frees:max"
TAKEN_RATE: Final = "function:memleak_allocations:rate"
GIVEN_BACK_RATE: Final = "function:memleak_frees:rate"
KEPT: Final = "function:memleak_kept:ratio"
LOST: Final = "pod:memleak_lost_events:max"

FUNCTION_LABELS: Final = "namespace, pod, container, command, function, caller, module"
POD_LABELS: Final = "namespace, pod"

# cAdvisor takes a container's figures every 10 to 15 s, whatever the speed of the story: a slope needs several.
SLOPE_WINDOW_SECONDS: Final = MINUTE
# A scrape that is answered too late must not interrupt what an alert waits for.
LOOKBACK_SECONDS: Final = 15


def kernel_recordings(pace: Pace, job: str, memory_limit_bytes: int) -> Group:
    """The recorded series, in the order in which they build on one another.

    ``memory_limit_bytes`` stands in where no container's limit is known.
    """
    slope_seconds = pace.window_seconds(5 * MINUTE, SLOPE_WINDOW_SECONDS)
    lookback = pace.window(0, LOOKBACK_SECONDS)
    steady = f"({GROWTH} > {GROWTH_NOTED_BYTES / slope_seconds:.0f})"

    def lately(series: str) -> str:
        return f"last_over_time({series}[{lookback}])"

    def slope(series: str) -> str:
        # Of the scraped samples, whose times are right also where scrapes fail or cAdvisor is late. A recorded series
        # repeats its last value meanwhile, and its slope is off by as much.
        return f"deriv({series}[{duration(slope_seconds)}])"

    def rate(series: str) -> str:
        return f"rate({series}[{pace.window(MINUTE, LOOKBACK_SECONDS)}])"

    rss, traced = f"container_memory_rss{{{CONTAINER}}}", vocabulary.RESIDENT
    outstanding, taken, given_back = (quantity.selector for quantity in vocabulary.QUANTITIES)
    elsewhere = "|".join(vocabulary.COUNTED_ELSEWHERE)
    lost = f'{vocabulary.LOST}{{kind!~"{elsewhere}"}}'
    return Group(
        "memleak-kernel",
        pace.scrape_interval,
        [
            Recording(CLAIMED, _per_pod(lately(f'process_resident_memory_bytes{{job="{job}"}}'))),
            Recording(RESIDENT, f"{_per_pod(rss)} or on () {_per_pod(lately(traced))}"),
            Recording(WORKING_SET, _per_pod(f"container_memory_working_set_bytes{{{CONTAINER}}}")),
            Recording(
                LIMIT,
                f"min by ({POD_LABELS}) (container_spec_memory_limit_bytes{{{CONTAINER}}} > 0)"
                f" or (0 * {CLAIMED} + {memory_limit_bytes})",
            ),
            Recording(UNCLAIMED, f"{RESIDENT} - {CLAIMED}"),
            Recording(GROWTH, f"{_per_pod(slope(rss))} or on () {_per_pod(slope(traced))}"),
            Recording(TIME_LEFT, f"({LIMIT} - ({WORKING_SET} or {RESIDENT})) / {steady}"),
            Recording(HELD, _per_function(lately(outstanding))),
            Recording(HELD_GROWTH, _per_function(slope(outstanding))),
            Recording(TAKEN, _per_function(lately(taken))),
            Recording(GIVEN_BACK, _per_function(lately(given_back))),
            Recording(TAKEN_RATE, _per_function(rate(taken))),
            Recording(GIVEN_BACK_RATE, _per_function(rate(given_back))),
            Recording(KEPT, f"1 - ({GIVEN_BACK} or 0 * {TAKEN}) / ({TAKEN} > 0)"),
            Recording(OUTSTANDING, _per_watcher(lately(outstanding))),
            Recording(OUTSTANDING_GROWTH, _per_watcher(slope(outstanding))),
            Recording(EXPLAINED, f"{OUTSTANDING_GROWTH} / {steady}"),
            # The gadget repeats its total on each of its rows.
            Recording(
                LOST,
                _per_pod(
                    f"sum by (job, {POD_LABELS}) ({lately(lost)})"
                    f" or max by (job, {POD_LABELS}) ({lately(vocabulary.UNTRACKED)})"
                ),
            ),
        ],
    )


def kernel_alerts(pace: Pace) -> Group:
    """The alerts that would have caught it: they read what the kernel counts, and not what the process says."""

    def alert(name: str, expr: str, severity: str, text: tuple[str, str]) -> Alert:
        return Alert(name, expr, pace.hold(5 * MINUTE), TEAM, severity, *text)

    return Group(
        "memleak-kernel-alerts",
        pace.scrape_interval,
        [
            alert(
                "MemoryNotClaimed",
                f"{UNCLAIMED} > {UNCLAIMED_HIGH_BYTES} and {RESIDENT} > 2 * {CLAIMED}",
                "ticket",
                (
                    "{{ or $labels.pod `The process` }} holds {{ $value | humanize1024 }}B more than it claims",
                    "The process counts its managed heap. The rest is native memory: trace its allocations.",
                ),
            ),
            alert(
                "MemoryLimitAhead",
                f"{TIME_LEFT} < {TIME_LEFT_SHORT_SECONDS}",
                "page",
                (
                    "{{ or $labels.pod `The process` }} reaches its memory limit in {{ $value | humanizeDuration }}",
                    "Its resident memory grows steadily, by the kernel's count. The kernel kills it at the limit.",
                ),
            ),
            alert(
                "FunctionKeepsItsMemory",
                f"{HELD} > {HELD_HIGH_BYTES} and {KEPT} > {LEAK_RATIO_HIGH} and {HELD_GROWTH} > 0",
                "page",
                (
                    "{{ $labels.function }} holds {{ $value | humanize1024 }}B and gives nothing back",
                    (
                        "It runs in {{ or $labels.pod $labels.container $labels.command }}, "
                        "{{ with $labels.caller }}is called from {{ . }} in {{ $labels.module }}, {{ end }}"
                        "and what it allocates stays."
                    ),
                ),
            ),
        ],
    )


def _per_pod(expr: str) -> str:
    return f"max by ({POD_LABELS}) ({expr})"


def _per_watcher(expr: str) -> str:
    # Two watchers count the same blocks twice.
    return f"max by ({POD_LABELS}) (sum by (job, {POD_LABELS}) ({expr}))"


def _per_function(expr: str) -> str:
    # A function's blocks are spread over processes of the same command.
    summed = f"sum by (job, {FUNCTION_LABELS}, runtime_container) ({expr})"
    # Outside of Kubernetes the container's name is the runtime's, and where a file and an offset stand for a function,
    # the file is the module.
    both = f'label_join({summed}, "either", "/", "container", "runtime_container")'
    contained = f'label_replace({both}, "container", "$1", "either", "/(.+)")'
    return f'max by ({FUNCTION_LABELS}) (label_replace({contained}, "module", "$1", "function", "(.+)[+]0x[0-9a-f]+"))'
