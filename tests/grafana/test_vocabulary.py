"""The rules and the dashboard are answered by the tracer alone, by the gadget alone, and by both together."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from heap_trace import Lost

from diagnosis.report.lost import UNCOUNTED
from grafana import DATASOURCE_UID, dashboards, rules, vocabulary
from tests.grafana.expositions import BLOCK_BYTES, Site, gadget_text, serving, tracer_text
from tests.support.prometheus import running_prometheus
from tests.support.screen import Screen, View
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.prometheus import Prometheus

GADGET = Path(__file__).parents[2] / "native" / "gadget" / "gadget.yaml"
PLACE = "_catalog_cache.abi3.so+0x3005"
NAMED = {"command": "python", "function": "catalog_cache_insert", "caller": "catalog_cache_refresh"}
NAMED |= {"module": "_catalog_cache.abi3.so"}
ON_DOCKER = {"namespace": "", "pod": "", "container": ""}
IN_A_CLUSTER = {"namespace": "memleak-demo", "pod": "leaker-1", "container": "leaker", "runtime_container": "k8s_x"}
OF_THE_GADGET = {"command": "cache-refresh", "function": PLACE, "pid": "408", "stack": "4715542678104070860"}
ANOTHER_STACK = {"stack": "1715542678104070861"}
BLOCKS = 1536

# What is watched by whom. "recorded" is as it was: an image whose gadget does not name the container.
CASES = {
    "recorded": ("gadget",),
    "gadget": ("gadget",),
    "cluster": ("gadget",),
    "tracer": ("tracer",),
    "both": ("gadget", "tracer"),
}
WHERE: dict[str, dict[str, str]] = {
    "recorded": ON_DOCKER,
    "gadget": {**ON_DOCKER, "runtime_container": "shop"},
    "cluster": IN_A_CLUSTER,
    "both": ON_DOCKER,
}
# As one watcher sees it: two stacks of one function, of which the smaller frees as well.
LARGE, SMALL = (BLOCKS, 0), (64, 16)
TOTAL_BYTES = (BLOCKS + 48) * BLOCK_BYTES


def exposition(case: str, watcher: str, scrapes: int) -> str:
    if watcher == "tracer":
        sites = [Site(NAMED, BLOCKS + 64, 16).later(scrapes)]
        # Seven blocks are counted under another stack, and two calls were not seen.
        return tracer_text(sites, {"stack": 7, "free": 4, "stacks": 5, "return": 2})
    labels = {**OF_THE_GADGET, **WHERE[case]}
    sites = [Site(labels, *LARGE).later(scrapes), Site({**labels, **ANOTHER_STACK}, *SMALL)]
    return gadget_text(sites, untracked=3)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Prometheus]]:
    """A Prometheus for each case, once the alert fires in all of them."""
    with contextlib.ExitStack() as running:
        found = {}
        for case, watchers in CASES.items():
            jobs = []
            for watcher in watchers:
                text = lambda scrapes, case=case, watcher=watcher: exposition(case, watcher, scrapes)  # noqa: E731
                address = running.enter_context(serving(text))
                jobs.append({"job_name": watcher, "static_configs": [{"targets": [address]}]})
            folder = tmp_path_factory.mktemp(case)
            found[case] = running.enter_context(running_prometheus(folder, jobs, rules(truth=True, speed=1000)))

        def all_fire() -> bool:
            return all(len(firing(server)) == len(CASES[case]) for case, server in found.items())

        wait_until(all_fire, "the alert fires from every watcher", seconds=60)
        yield found


def firing(server: Prometheus) -> list[dict[str, str]]:
    alert = 'ALERTS{alertname="FunctionKeepsItsMemory",alertstate="firing"}'
    return [dict(sample.labels) for sample in server.instant(alert)]


def screen(server: Prometheus) -> Screen:
    text = dashboards(truth=True, datasource_uid=DATASOURCE_UID, speed=1000)["kernel-truth.json"]
    return Screen(text, server, View({"pod": ".*", "job": ".+", "instance": ".+", "speed": "1000"}))


def now(server: Prometheus) -> float:
    return server.instant("time()")[0].value


def test_the_alert_names_the_function_where_the_watcher_knows_names_and_the_place_in_the_file_elsewhere(
    servers: dict[str, Prometheus],
) -> None:
    functions = {case: {alert["function"] for alert in firing(server)} for case, server in servers.items()}

    assert functions == {
        "recorded": {PLACE},
        "gadget": {PLACE},
        "cluster": {PLACE},
        "tracer": {"catalog_cache_insert"},
        "both": {"catalog_cache_insert", PLACE},
    }
    assert {alert["module"] for server in servers.values() for alert in firing(server)} == {"_catalog_cache.abi3.so"}


def test_the_alert_says_which_container(servers: dict[str, Prometheus]) -> None:
    def labels(case: str) -> tuple[str | None, str | None]:
        (alert,) = firing(servers[case])
        return alert.get("pod"), alert.get("container")

    assert labels("gadget") == (None, "shop")
    assert labels("cluster") == ("leaker-1", "leaker")


@pytest.mark.parametrize("case", CASES)
def test_every_panel_about_functions_is_answered(case: str, servers: dict[str, Prometheus]) -> None:
    seen = screen(servers[case])
    at = now(servers[case])
    panels = (
        "Held by one function", "Never given back", "Events lost", "Outstanding bytes by function",
        "Growth, and what explains it", "Allocations against frees", "Who holds it",
    )  # fmt: skip

    empty = {panel for panel in panels if not seen.show(panel, at)}
    taken = [shown for shown in seen.show("Allocations against frees", at) if shown.name.startswith("taken by")]

    assert empty == set()
    assert all(shown.value == pytest.approx(16, rel=0.5) for shown in taken), "sixteen blocks at each scrape"


@pytest.mark.parametrize("case", CASES)
def test_blocks_that_two_watchers_see_are_counted_once(case: str, servers: dict[str, Prometheus]) -> None:
    server = servers[case]
    at = now(server)

    (pod,) = server.instant("pod:memleak_outstanding_bytes:sum", at)
    watched = [sample.value for sample in server.instant("sum by (job) (memleak_outstanding_bytes)", at)]

    # A scrape and an evaluation of the rules lie between the two.
    assert len(watched) == len(CASES[case])
    assert pod.value == pytest.approx(max(watched), abs=4 * 16 * BLOCK_BYTES)
    assert min(watched) >= TOTAL_BYTES


def test_only_what_is_missing_from_the_numbers_counts_as_lost(servers: dict[str, Prometheus]) -> None:
    lost = {case: server.instant("pod:memleak_lost_events:max")[0].value for case, server in servers.items()}

    assert lost == {"recorded": 3, "gadget": 3, "cluster": 3, "tracer": 2, "both": 3}


def test_the_kinds_that_are_counted_elsewhere_are_the_tracers_own() -> None:
    assert set(vocabulary.COUNTED_ELSEWHERE) == {kind.name.lower() for kind in Lost} - set(UNCOUNTED)


def test_the_gadgets_metadata_has_the_names_and_labels_of_the_vocabulary() -> None:
    (source,) = yaml.safe_load(GADGET.read_text())["datasources"].values()
    fields = {name: field["annotations"] for name, field in source["fields"].items()}
    gauges = {own["metrics.name"] for own in fields.values() if own.get("metrics.type") == "gauge"}
    keys = {own.get("metrics.name", name) for name, own in fields.items() if own.get("metrics.type") == "key"}

    assert gauges == {
        *(one.gadget for one in vocabulary.QUANTITIES), vocabulary.BLOCKS, vocabulary.UNTRACKED,
    }  # fmt: skip
    assert keys == set(vocabulary.GADGET_LABELS)


@pytest.mark.parametrize("case", ["recorded", "cluster"])
def test_the_expositions_of_these_tests_have_the_gadgets_names_and_labels(case: str) -> None:
    lines = [line for line in exposition(case, "gadget", 0).splitlines() if not line.startswith("#")]
    names = {line.partition("{")[0] for line in lines}
    labels = {pair.partition("=")[0] for line in lines for pair in line.partition("{")[2].partition("}")[0].split(",")}

    assert names == {*(one.gadget for one in vocabulary.QUANTITIES), vocabulary.BLOCKS, vocabulary.UNTRACKED}
    missing = {"runtime_container"} if case == "recorded" else set()
    assert {label for label in labels if not label.startswith("otel_")} == set(vocabulary.GADGET_LABELS) - missing
