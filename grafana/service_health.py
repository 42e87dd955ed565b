"""The dashboard that the team looks at: what the service says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import expressions
from grafana.panels import GREEN, RED, About, Query, chart, falling, number, rising
from grafana.phases import CHOSEN
from grafana.sdk import units
from grafana.thresholds import (
    ERROR_SHARE_HIGH,
    ERROR_SHARE_NOTED,
    LATENCY_PAGE_SECONDS,
    LATENCY_SLOW_SECONDS,
    MEMORY_CRITICAL_PERCENT,
    MEMORY_HIGH_PERCENT,
    PROBES_PASSED_ALL,
    PROBES_PASSED_LOW,
    RESTARTS_HIGH,
    RESTARTS_NOTED,
    UNCOLLECTABLE_HIGH,
    UNCOLLECTABLE_NOTED,
)

if TYPE_CHECKING:
    from grafana.panels import Panel

WINDOW: Final = "$__rate_interval"
# A kubelet's liveness probe comes every 10 s, so a shorter window would hold none now and then.
PROBE_INTERVAL: Final = "30s"
# At ten visitors a second a shorter window would make a quantile of a handful of lookups.
LOOKUP_INTERVAL: Final = "10s"
LATENCY_STEPS: Final = rising(amber=LATENCY_SLOW_SECONDS, red=LATENCY_PAGE_SECONDS)


def panels(memory_limit_bytes: int) -> list[Panel]:
    """The team's panels, in reading order."""
    return [*_numbers(), *_charts(memory_limit_bytes)]


def _numbers() -> list[Panel]:
    return [
        number(
            About(
                "Health",
                "The service's verdict on itself, from the checks that /health answers with: memory, resident memory, "
                "garbage collector. The worst of its instances counts.",
                "no answer",
            ),
            [Query(expressions.health(CHOSEN))],
            units.NoUnit,
            falling(green=1),
            words=((1, "Healthy", GREEN), (0, "Unhealthy", RED)),
        ),
        number(
            About(
                "Memory in use",
                "How much of its memory limit the service uses, by its own books. "
                f"Amber from {MEMORY_HIGH_PERCENT} %, red from {MEMORY_CRITICAL_PERCENT} %.",
                "no answer",
            ),
            [Query(expressions.memory_percent(CHOSEN))],
            units.Percent,
            rising(amber=MEMORY_HIGH_PERCENT, red=MEMORY_CRITICAL_PERCENT),
            decimals=1,
        ),
        number(
            About(
                "Probes passed",
                "The share of liveness and readiness probes that got the right answer in time. Where no kubelet says "
                "so, it is the share of answers to /health and /ready that were a success.",
                "not probed",
            ),
            [
                Query(expressions.probes_passed("Liveness", "/health", CHOSEN, WINDOW), "Liveness", PROBE_INTERVAL),
                Query(expressions.probes_passed("Readiness", "/ready", CHOSEN, WINDOW), "Readiness", PROBE_INTERVAL),
            ],
            units.PercentUnit,
            falling(amber=PROBES_PASSED_LOW, green=PROBES_PASSED_ALL),
            decimals=0,
        ),
        number(
            About(
                "Restarts",
                "How often an instance began anew in the time shown. One is a deployment, three are a loop.",
                "no answer",
            ),
            [Query(expressions.restarts(CHOSEN, "$__range", "$__interval"))],
            units.NoUnit,
            rising(amber=RESTARTS_NOTED, red=RESTARTS_HIGH),
        ),
        number(
            About(
                "Alerts",
                "How many of the team's alerts fire at this moment. A Prometheus without the rules has none either.",
                "no answer",
            ),
            [Query('count(ALERTS{alertstate="firing",team="catalog"}) or vector(0)')],
            units.NoUnit,
            rising(red=1),
            words=((0, "None", GREEN),),
        ),
        number(
            About(
                "Errors",
                "The share of requests that were answered with a 5xx status. The team is called from "
                f"{100 * ERROR_SHARE_HIGH:g} % on.",
                "no requests",
            ),
            [Query(expressions.error_share(CHOSEN, WINDOW))],
            units.PercentUnit,
            rising(amber=ERROR_SHARE_NOTED, red=ERROR_SHARE_HIGH),
        ),
        number(
            About(
                "Uncollectable objects",
                "Objects that the garbage collector gave up on since the start: where a Python service leaks, they "
                "grow.",
                "no answer",
            ),
            [Query(expressions.uncollectable(CHOSEN))],
            units.NoUnit,
            rising(amber=UNCOLLECTABLE_NOTED, red=UNCOLLECTABLE_HIGH),
        ),
        number(
            About(
                "Lookup latency, p95",
                "19 of 20 lookups are faster than this. Amber is slower than a warm cache has reason to be; red breaks "
                "the promise to the shop, and the team is called.",
                "no lookups",
            ),
            [Query(expressions.latency(0.95, CHOSEN, WINDOW), interval=LOOKUP_INTERVAL)],
            units.Seconds,
            LATENCY_STEPS,
        ),
    ]


def _charts(memory_limit_bytes: int) -> list[Panel]:
    return [
        chart(
            About("Requests", "Requests answered a second, by route.", "no requests"),
            [Query(expressions.request_rate(CHOSEN, WINDOW), "{{path}}")],
            units.RequestsPerSecond,
        ),
        chart(
            About(
                "Lookup latency",
                "How long lookups take, from the request's head to the end of the answer: the middle one, and the one "
                "that 19 of 20 are faster than. The dashed lines are where the number above turns amber and red.",
                "no lookups",
            ),
            [
                Query(expressions.latency(0.5, CHOSEN, WINDOW), "p50", LOOKUP_INTERVAL),
                Query(expressions.latency(0.95, CHOSEN, WINDOW), "p95", LOOKUP_INTERVAL),
            ],
            units.Seconds,
            LATENCY_STEPS,
        ),
        chart(
            About(
                "Resident memory",
                "The resident memory that each instance reports in process_resident_memory_bytes. Dashed: "
                f"{MEMORY_HIGH_PERCENT} % and {MEMORY_CRITICAL_PERCENT} % of the limit.",
                "no answer",
            ),
            [Query(f"process_resident_memory_bytes{{{CHOSEN}}}", "{{instance}}")],
            units.BytesIEC,
            rising(
                amber=memory_limit_bytes * MEMORY_HIGH_PERCENT // 100,
                red=memory_limit_bytes * MEMORY_CRITICAL_PERCENT // 100,
            ),
        ),
        chart(
            About(
                "Garbage collector",
                "Runs of the garbage collector a second, by generation: the younger, the more often.",
                "no answer",
            ),
            [Query(expressions.collections(CHOSEN, WINDOW), "generation {{generation}}")],
            units.OpsPerSecond,
        ),
    ]
