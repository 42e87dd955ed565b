"""The alerts of the team that runs the service: sound rules over the service's own figures.

They watch what a team watches: availability, errors, latency, memory, and even a memory leak by its trend. Each is
right about the number it reads, and none of those numbers knows of the C heap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana import expressions
from grafana.pace import DAY, HOUR, MINUTE
from grafana.rules import Alert, Group
from grafana.thresholds import (
    ERROR_SHARE_HIGH,
    LATENCY_PAGE_SECONDS,
    MEMORY_HIGH_PERCENT,
    PROBES_PASSED_LOW,
    RESTARTS_HIGH,
    UNCOLLECTABLE_HIGH,
)

if TYPE_CHECKING:
    from grafana.pace import Pace

TEAM = "catalog"
# A kubelet's liveness probe comes every 10 s, whatever the speed of the story.
PROBE_WINDOW_SECONDS = MINUTE


def team_alerts(pace: Pace, job: str, memory_limit_bytes: int) -> Group:
    """The team's alerts over the targets of one scrape job."""
    of = f'job="{job}"'
    window = pace.window(5 * MINUTE)
    probe_window = pace.window(2 * MINUTE, PROBE_WINDOW_SECONDS)

    def alert(name: str, expr: str, hold: float, severity: str, text: tuple[str, str]) -> Alert:
        return Alert(name, expr, pace.hold(hold), TEAM, severity, *text)

    return Group(
        "catalog-service",
        pace.scrape_interval,
        [
            alert(
                "CatalogDown",
                f"min(up{{{of}}}) == 0 or absent(up{{{of}}}) == 1",
                MINUTE,
                "page",
                (
                    "The catalog service cannot be scraped",
                    "Prometheus gets no answer from it. Look at the pod's or the container's state.",
                ),
            ),
            alert(
                "CatalogUnhealthy",
                f"{expressions.health(of)} == 0",
                MINUTE,
                "page",
                (
                    "The catalog service calls itself unhealthy",
                    "Its /health says which check failed.",
                ),
            ),
            alert(
                "CatalogMemoryHigh",
                f"{expressions.memory_percent(of)} > {MEMORY_HIGH_PERCENT}",
                5 * MINUTE,
                "page",
                (
                    "The catalog service uses {{ $value | printf `%.0f` }} % of its memory",
                    "At 100 % the kernel kills it. Look for large objects on the heap.",
                ),
            ),
            alert(
                "CatalogResidentMemoryHigh",
                f"max(process_resident_memory_bytes{{{of}}}) > {memory_limit_bytes * MEMORY_HIGH_PERCENT // 100}",
                5 * MINUTE,
                "page",
                (
                    "The catalog service holds {{ $value | humanize1024 }}B resident",
                    f"That is more than {MEMORY_HIGH_PERCENT} % of its limit.",
                ),
            ),
            alert(
                "CatalogMemoryLeak",
                f"max(predict_linear(process_resident_memory_bytes{{{of}}}[{pace.window(30 * MINUTE)}], "
                f"{pace.seconds(DAY):.0f})) > {memory_limit_bytes}",
                10 * MINUTE,
                "ticket",
                (
                    "The catalog service will reach its memory limit within a day",
                    "Its resident memory has grown for half an hour.",
                ),
            ),
            alert(
                "CatalogGarbageUncollectable",
                f"{expressions.uncollectable(of)} > {UNCOLLECTABLE_HIGH}",
                5 * MINUTE,
                "ticket",
                (
                    "The garbage collector gave up on {{ $value }} objects",
                    "Reference cycles that cannot be broken stay for good. Look at extension modules.",
                ),
            ),
            alert(
                "CatalogErrors",
                f"{expressions.error_share(of, window)} > {ERROR_SHARE_HIGH}",
                5 * MINUTE,
                "page",
                (
                    "{{ $value | humanizePercentage }} of requests fail",
                    "The service answers them with a 5xx status.",
                ),
            ),
            alert(
                "CatalogSlow",
                f"{expressions.latency(0.95, of, window)} > {LATENCY_PAGE_SECONDS}",
                10 * MINUTE,
                "page",
                (
                    "Lookups take {{ $value | humanizeDuration }} at the 95th percentile",
                    f"The promise to the shop is {LATENCY_PAGE_SECONDS * 1000:.0f} ms.",
                ),
            ),
            *(
                alert(
                    f"Catalog{probe}ProbeFails",
                    f"({expressions.probes_passed(probe, path, of, probe_window)}) < {PROBES_PASSED_LOW}",
                    MINUTE,
                    "page",
                    (
                        "{{ $value | humanizePercentage }} of " + probe.lower() + " probes pass",
                        f"{path} answers late, wrongly or not at all.",
                    ),
                )
                for probe, path in (("Liveness", "/health"), ("Readiness", "/ready"))
            ),
            alert(
                "CatalogRestarting",
                f"{expressions.restarts(of, pace.window(HOUR), pace.scrape_interval)} >= {RESTARTS_HIGH}",
                0,
                "page",
                (
                    "The catalog service began anew {{ $value }} times within an hour",
                    "The pod's last state says why the one before it ended.",
                ),
            ),
        ],
    )
