"""What the kernel knows, under one name wherever the lab runs, and the alerts that would have caught it.

Names: `level:metric:operation`. At level ``pod`` series carry namespace and pod, which are empty where there are no
pods; at level ``function`` also command, function, caller and module.

Two sources know a container's memory: the kubelet's cAdvisor, and the tracer's memleak_resident_bytes on plain Docker.
Two know who holds it: the tracer (`memleak-lab trace --listen`) and this project's gadget, whose labels
`GADGET_LABELS` brings into the tracer's form. Where both watch the same process, the one that saw more is believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
    from collections.abc import Mapping

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
KEPT: Final = "function:memleak_kept:ratio"
LOST: Final = "pod:memleak_lost_events:sum"

FUNCTION_LABELS: Final = "namespace, pod, command, function, caller, module"
POD_LABELS: Final = "namespace, pod"

# Inspektor Gadget's labels, and what they are called here: for metric_relabel_configs of the gadget's scrape job. The
# gadget itself names its keys `function`, `caller` and `module` and its metrics as the tracer does (metrics.name).
GADGET_LABELS: Final[Mapping[str, str]] = {
    "k8s_namespace": "namespace",
    "k8s_podName": "pod",
    "k8s_containerName": "container",
    "proc_comm": "command",
}
# cAdvisor takes a container's figures every 10 to 15 s, whatever the speed of the story: a slope needs several.
SLOPE_WINDOW_SECONDS: Final = MINUTE
# A scrape that is answered too late must not interrupt what an alert waits for.
PATIENCE_SECONDS: Final = 15


def kernel_recordings(pace: Pace, job: str, memory_limit_bytes: int) -> Group:
    """The recorded series, in the order in which they build on one another.

    ``memory_limit_bytes`` stands in where no container's limit is known.
    """
    slope_seconds = pace.window_seconds(5 * MINUTE, SLOPE_WINDOW_SECONDS)
    patience = pace.window(0, PATIENCE_SECONDS)
    steady = f"({GROWTH} > {GROWTH_NOTED_BYTES / slope_seconds:.0f})"

    def lately(series: str) -> str:
        return f"last_over_time({series}[{patience}])"

    def slope(series: str) -> str:
        # Of the scraped samples, whose times are right also where scrapes fail or cAdvisor is late. A recorded series
        # repeats its last value meanwhile, and its slope is off by as much.
        return f"deriv({series}[{duration(slope_seconds)}])"

    rss, traced = f"container_memory_rss{{{CONTAINER}}}", "memleak_resident_bytes"
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
            Recording(HELD, _per_function(lately("memleak_outstanding_bytes"))),
            Recording(HELD_GROWTH, _per_function(slope("memleak_outstanding_bytes"))),
            Recording(TAKEN, _per_function(lately("memleak_allocations_total"))),
            Recording(GIVEN_BACK, _per_function(lately("memleak_frees_total"))),
            Recording(KEPT, f"1 - ({GIVEN_BACK} or 0 * {TAKEN}) / ({TAKEN} > 0)"),
            Recording(OUTSTANDING, f"sum by ({POD_LABELS}) ({HELD})"),
            Recording(OUTSTANDING_GROWTH, f"sum by ({POD_LABELS}) ({HELD_GROWTH})"),
            Recording(EXPLAINED, f"{OUTSTANDING_GROWTH} / {steady}"),
            Recording(LOST, f"sum by ({POD_LABELS}) ({lately('memleak_lost_events_total')})"),
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
                    "It is called from {{ $labels.caller }} in {{ $labels.module }}, and what it allocates stays.",
                ),
            ),
        ],
    )


def _per_pod(expr: str) -> str:
    return f"max by ({POD_LABELS}) ({expr})"


def _per_function(expr: str) -> str:
    # A function's blocks are spread over processes of the same command; two watchers count the same blocks twice.
    return f"max by ({FUNCTION_LABELS}) (sum by (job, {FUNCTION_LABELS}) ({expr}))"
