"""The dashboard that is revealed on request: what the kernel counts, beside what the service claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import kernel_rules as known
from grafana.panels import About, Column, Query, chart, falling, number, rising, rows
from grafana.phases import choice
from grafana.sdk import units
from grafana.thresholds import (
    EXPLAINED_PARTLY,
    EXPLAINED_WELL,
    HELD_HIGH_BYTES,
    HELD_NOTED_BYTES,
    HOLDER_BYTES,
    LEAK_RATIO_HIGH,
    LEAK_RATIO_NOTED,
    TIME_LEFT_NOTED_SECONDS,
    TIME_LEFT_SHORT_SECONDS,
    UNCLAIMED_HIGH_BYTES,
    UNCLAIMED_NOTED_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.panels import Panel
    from grafana.sdk import dashboard

NUMBER_WIDTH: Final = 4
CHOSEN: Final = 'pod=~"$pod"'
HOLDERS: Final = f"{known.HELD}{{{CHOSEN}}} > {HOLDER_BYTES}"
# What the program asks of the stock gadget: its implicit counter of events, by operation.
STOCK_GADGET: Final = 'sum by (operation) (rate(calls_total{otel_scope_name="trace_malloc"}[$__rate_interval]))'
ROW_LABELS: Final = ("pod", "container", "function", "caller", "module")


def pod_variable() -> dashboard.QueryVariable:
    """Whose memory is shown: every pod's at first, and a process that is in no pod as well."""
    return choice("pod", "Pod", f"label_values({known.CLAIMED}, pod)", everything=".*")


def panels(trace: Sequence[dashboard.DashboardLink], why: Sequence[dashboard.DashboardLink]) -> list[Panel]:
    """The panels, in reading order.

    ``trace`` leads to the guide's page on tracing, ``why`` to the one on why the service's figures saw nothing.
    """
    return [*_numbers(why), *_charts(trace, why), _holders(trace)]


def _numbers(why: Sequence[dashboard.DashboardLink]) -> list[Panel]:
    return [
        number(
            About(
                "Missing from the claims",
                "Resident memory by the kernel's count, less what the service reports. Some megabytes are stacks, "
                "arenas and mapped files; more is native memory that the service's books do not know.",
                "no kernel figure",
                why,
            ),
            [Query(f"max({known.UNCLAIMED}{{{CHOSEN}}})")],
            units.BytesIEC,
            rising(amber=UNCLAIMED_NOTED_BYTES, red=UNCLAIMED_HIGH_BYTES),
            width=NUMBER_WIDTH,
        ),
        number(
            About(
                "Time left to the limit",
                "When the memory limit is reached if growth goes on as in the last minutes. At the limit the kernel "
                "kills the process.",
                "no steady growth",
            ),
            [Query(f"min({known.TIME_LEFT}{{{CHOSEN}}})")],
            units.Seconds,
            falling(amber=TIME_LEFT_SHORT_SECONDS, green=TIME_LEFT_NOTED_SECONDS),
            width=NUMBER_WIDTH,
        ),
        number(
            About(
                "Growth explained",
                "How much of the resident growth the traced allocations account for. Near 100 % nothing else grows; "
                "far below it, memory comes from somewhere that is not traced.",
                "no steady growth",
            ),
            [Query(f"min({known.EXPLAINED}{{{CHOSEN}}})")],
            units.PercentUnit,
            falling(amber=EXPLAINED_PARTLY, green=EXPLAINED_WELL),
            decimals=0,
            width=NUMBER_WIDTH,
        ),
        number(
            About(
                "Held by one function",
                "The most that any one function allocated and nobody freed since tracing began.",
                "nothing traced",
            ),
            [Query(f"max({known.HELD}{{{CHOSEN}}})")],
            units.BytesIEC,
            rising(amber=HELD_NOTED_BYTES, red=HELD_HIGH_BYTES),
            width=NUMBER_WIDTH,
        ),
        number(
            About(
                "Never given back",
                "Of the blocks that this function took, the share that was never freed. A busy program that frees "
                f"what it takes is far below {100 * LEAK_RATIO_HIGH:g} %. Functions that hold less than "
                f"{HELD_NOTED_BYTES >> 20} MiB are left out.",
                "no large holder",
            ),
            [Query(f"max({known.KEPT}{{{CHOSEN}}} and {known.HELD}{{{CHOSEN}}} > {HELD_NOTED_BYTES})")],
            units.PercentUnit,
            rising(amber=LEAK_RATIO_NOTED, red=LEAK_RATIO_HIGH),
            decimals=1,
            width=NUMBER_WIDTH,
        ),
        number(
            About(
                "Events lost",
                "Allocations and frees that the tracer could not count. Above zero, the figures here are too low.",
                "nothing traced",
            ),
            [Query(f"sum({known.LOST}{{{CHOSEN}}})")],
            units.NoUnit,
            rising(amber=1),
            width=NUMBER_WIDTH,
        ),
    ]


def _charts(trace: Sequence[dashboard.DashboardLink], why: Sequence[dashboard.DashboardLink]) -> list[Panel]:
    return [
        chart(
            About(
                "Claimed, resident, working set",
                "Three answers to one question. Claimed is what the service reports, resident what the kernel counts. "
                "Working set is what the kubelet compares with the limit; without a kubelet there is no such line.",
                "no figures",
                why,
            ),
            [
                Query(f"{known.CLAIMED}{{{CHOSEN}}}", "claimed {{pod}}"),
                Query(f"{known.RESIDENT}{{{CHOSEN}}}", "resident {{pod}}"),
                Query(f"{known.WORKING_SET}{{{CHOSEN}}}", "working set {{pod}}"),
            ],
            units.BytesIEC,
        ),
        chart(
            About(
                "Outstanding bytes by function",
                "What each function allocated since tracing began and nobody freed, from the kernel's probes on the "
                "allocator. Functions that hold less than 1 MiB are left out.",
                "no function holds 1 MiB",
                trace,
            ),
            [
                Query(_holders_with('caller!=""'), "{{function}} from {{caller}} {{pod}} {{container}}"),
                # The gadget knows no callers.
                Query(_holders_with('caller=""'), "{{function}} {{pod}} {{container}}"),
            ],
            units.BytesIEC,
            stacked=True,
        ),
        chart(
            About(
                "Growth, and what explains it",
                "Resident growth a second, and the growth of the traced blocks that nobody freed. Where the lines lie "
                "on each other, the function above is the whole story.",
                "no figures",
            ),
            [
                Query(f"clamp_min({known.GROWTH}{{{CHOSEN}}}, 0)", "resident {{pod}}"),
                Query(f"clamp_min({known.OUTSTANDING_GROWTH}{{{CHOSEN}}}, 0)", "outstanding {{pod}}"),
            ],
            units.BytesPerSecondIEC,
        ),
        chart(
            About(
                "Allocations against frees",
                "Blocks taken and blocks given back a second, by the functions that hold more than 1 MiB. In a healthy "
                "program the two lines of a function lie close together. Inspektor Gadget's stock trace_malloc knows "
                "no functions: where it runs, its calls are shown by operation.",
                "no function holds 1 MiB",
                trace,
            ),
            [
                Query(_of_holders(known.TAKEN_RATE), "taken by {{function}} {{pod}}"),
                Query(_of_holders(known.GIVEN_BACK_RATE), "given back to {{function}} {{pod}}"),
                Query(STOCK_GADGET, "{{operation}} calls, all functions"),
            ],
            units.OpsPerSecond,
        ),
    ]


def _holders(trace: Sequence[dashboard.DashboardLink]) -> Panel:
    by = ", ".join(ROW_LABELS)
    large = f"and on ({by}) ({HOLDERS})"
    return rows(
        About(
            "Who holds it",
            "The functions that hold more than 1 MiB: who called them, in which object, how much is outstanding, and "
            "how many of the blocks they took came back.",
            "no function holds 1 MiB",
            trace,
        ),
        ROW_LABELS,
        [
            Column(
                "Outstanding",
                f"sum by ({by}) ({HOLDERS})",
                units.BytesIEC,
                rising(amber=HELD_NOTED_BYTES, red=HELD_HIGH_BYTES),
            ),
            Column("Allocations", f"sum by ({by}) ({known.TAKEN}{{{CHOSEN}}}) {large}", units.NoUnit),
            Column("Frees", f"sum by ({by}) ({known.GIVEN_BACK}{{{CHOSEN}}}) {large}", units.NoUnit),
            Column(
                "Never given back",
                f"max by ({by}) ({known.KEPT}{{{CHOSEN}}}) {large}",
                units.PercentUnit,
                rising(amber=LEAK_RATIO_NOTED, red=LEAK_RATIO_HIGH),
            ),
        ],
    )


def _holders_with(matcher: str) -> str:
    return f"{known.HELD}{{{CHOSEN},{matcher}}} > {HOLDER_BYTES}"


def _of_holders(series: str) -> str:
    labels = "pod, function, caller"
    return f"sum by ({labels}) ({series}{{{CHOSEN}}}) and on ({labels}) ({HOLDERS})"
