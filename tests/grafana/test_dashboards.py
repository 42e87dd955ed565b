"""What every dashboard keeps to, whatever it shows."""

from __future__ import annotations

import json
import re
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import pytest

from grafana import DATASOURCE_UID, dashboards, rules
from grafana.sdk import JSONEncoder, model, register_default_plugins
from service.schedule import Phase, Schedule
from tests.grafana.schema import errors
from tests.support.screen import View

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.prometheus import Prometheus

GUIDE = "# eBPF guide\n\nFour tools.\n\n## Choose your tool\n\nAny.\n\n## Why the metrics saw nothing\n\nThey count.\n"
FILES = dashboards(truth=True, datasource_uid=DATASOURCE_UID, speed=60, guide=GUIDE)
QUERYING = ("service-health.json", "kernel-truth.json")
MODELS: dict[str, dict[str, Any]] = {name: json.loads(text) for name, text in FILES.items()}
# Grafana 13 knows no graph, singlestat or table-old.
PANEL_TYPES = {"stat", "timeseries", "table", "text"}
CHOICES = {"job": ".+", "instance": ".+", "pod": ".*", "speed": "60", "datasource": DATASOURCE_UID}


PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}") for name, each in MODELS.items() for panel in each["panels"]
]
QUERYING_PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}") for name in QUERYING for panel in MODELS[name]["panels"]
]
TARGETS = [
    pytest.param(target, id=f"{name}: {panel['title']} {target['refId']}")
    for name in QUERYING
    for panel in MODELS[name]["panels"]
    for target in panel["targets"]
]


@pytest.mark.parametrize("name", FILES)
def test_the_model_is_what_the_sdks_schema_describes(name: str) -> None:
    register_default_plugins()

    decoded = model.Dashboard.from_json(MODELS[name])

    assert list(errors(decoded, model.Dashboard, name)) == []
    # The SDK gives every link a placement, whatever was read.
    again = re.sub(r'"placement": "inControlsMenu"(, )?', "", JSONEncoder(sort_keys=True).encode(decoded))
    assert json.loads(again) == json.loads(re.sub(r'"placement": "inControlsMenu"(,\s*)?', "", FILES[name]))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"title": 5}, "title is 5 and not a str"),
        ({"graphTooltip": 9}, "graph_tooltip is 9 and not a DashboardCursorSync"),
        ({"templating": {"list": [{"type": "wish", "name": "x"}]}}, "type_val is 'wish'"),
        ({"panels": [{"type": "stat", "gridPos": {"h": "8", "w": 1, "x": 0, "y": 0}}]}, "h is '8' and not a int"),
    ],
)
def test_the_schema_check_finds_what_is_wrong(change: Mapping[str, Any], error: str) -> None:
    register_default_plugins()

    decoded = model.Dashboard.from_json({**MODELS["service-health.json"], **change})

    assert any(error in found for found in errors(decoded, model.Dashboard, ""))


def test_the_text_is_the_bare_model_and_the_same_each_time() -> None:
    again = dashboards(truth=True, datasource_uid=DATASOURCE_UID, speed=60, guide=GUIDE)

    assert again == FILES
    assert all("dashboard" not in each and each["schemaVersion"] == 42 for each in MODELS.values())


def test_uids_are_fixed_and_differ() -> None:
    assert {name: each["uid"] for name, each in MODELS.items()} == {
        "service-health.json": "memleak-lab-health",
        "kernel-truth.json": "memleak-lab-kernel",
        "ebpf-guide.json": "memleak-lab-guide",
    }


@pytest.mark.parametrize("name", FILES)
def test_panels_have_ids_and_titles_of_their_own(name: str) -> None:
    own = MODELS[name]["panels"]

    assert [panel["id"] for panel in own] == list(range(1, len(own) + 1))
    assert len({panel["title"] for panel in own}) == len(own)


@pytest.mark.parametrize("name", FILES)
def test_panels_fill_the_grid_without_overlap(name: str) -> None:
    cells = [
        cell
        for panel in MODELS[name]["panels"]
        for grid in [panel["gridPos"]]
        for cell in product(range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"]))
    ]

    assert len(cells) == len(set(cells))
    assert {x for x, _ in cells} == set(range(24))
    assert len(cells) == 24 * (max(y for _, y in cells) + 1), "there is a hole"


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_is(panel: Mapping[str, Any]) -> None:
    assert panel["type"] in PANEL_TYPES
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert len(panel["description"]) > 30


@pytest.mark.parametrize("panel", QUERYING_PANELS)
def test_a_panel_has_a_unit_and_words_for_no_data(panel: Mapping[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    special = [mapping for mapping in defaults["mappings"] if mapping["type"] == "special"]

    assert defaults["unit"]
    assert defaults["noValue"]
    assert [mapping["options"]["match"] for mapping in special] == ["null+nan"]
    assert special[0]["options"]["result"]["text"] == defaults["noValue"]
    if panel["type"] == "timeseries":
        assert defaults["custom"]["spanNulls"] is False


@pytest.mark.parametrize("panel", QUERYING_PANELS)
def test_thresholds_begin_below_everything_and_rise(panel: Mapping[str, Any]) -> None:
    fields = panel["fieldConfig"]
    overridden = [
        change["value"]
        for override in fields["overrides"] or ()
        for change in override["properties"]
        if change["id"] == "thresholds"
    ]
    for thresholds in (fields["defaults"]["thresholds"], *overridden):
        first, *steps = (step["value"] for step in thresholds["steps"])
        assert first is None
        assert all(low < high for low, high in pairwise(steps))


@pytest.mark.parametrize("name", QUERYING)
def test_everything_asks_the_chosen_data_source(name: str) -> None:
    asking = [
        *MODELS[name]["panels"],
        *MODELS[name]["annotations"]["list"],
        *(variable for variable in MODELS[name]["templating"]["list"] if variable["type"] == "query"),
    ]
    chooser = MODELS[name]["templating"]["list"][0]

    assert {(one["datasource"]["type"], one["datasource"]["uid"]) for one in asking} == {
        ("prometheus", "${datasource}")
    }
    assert (chooser["type"], chooser["name"], chooser["query"]) == ("datasource", "datasource", "prometheus")
    assert chooser["current"]["value"] == DATASOURCE_UID


@pytest.mark.parametrize("name", QUERYING)
def test_every_variable_that_is_used_is_declared(name: str) -> None:
    declared = {variable["name"] for variable in MODELS[name]["templating"]["list"]}
    used = {match for match in re.findall(r"\$\{?(\w+)", FILES[name]) if not match.startswith("__")}

    assert used == declared


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for branch in tree.values():
            yield from _nodes(branch)
    elif isinstance(tree, list):
        for branch in tree:
            yield from _nodes(branch)


@pytest.mark.parametrize("target", TARGETS)
def test_a_query_parses_and_keeps_the_rules(target: Mapping[str, Any], parser: Prometheus) -> None:
    nodes = list(_nodes(parser.syntax(View(CHOICES).fill(target["expr"], target.get("interval", "")))))

    selectors = [node for node in nodes if node.get("type") in {"vectorSelector", "matrixSelector"}]
    assert selectors
    for selector in selectors:
        matched = {matcher["name"] for matcher in selector["matchers"]}
        # A recorded series has lost its job and keeps its pod; the kubelet's probes are joined to the chosen targets.
        assert {"job", "instance"} <= matched or matched & {"pod", "probe_type", "alertstate", "otel_scope_name"}, (
            selector["name"]
        )
    for call in nodes:
        if call.get("type") == "call" and call["func"]["name"] in {"rate", "increase", "irate"}:
            assert call["args"][0]["name"].endswith(("_total", "_bucket", "_sum", "_count")), "a rate of no counter"


@pytest.mark.parametrize("target", TARGETS)
def test_a_query_takes_its_window_from_the_dashboard(target: Mapping[str, Any]) -> None:
    windows = set(re.findall(r"\[([^\]]*)\]", target["expr"]))
    rates = re.findall(r"rate\([^\[]*\[([^\]]*)\]", target["expr"])

    assert windows <= {"$__rate_interval", "$__range:$__interval"}
    assert set(rates) <= {"$__rate_interval"}


def test_the_marks_follow_the_services_own_schedule() -> None:
    begins = [float(mark["target"]["expr"].split("+ ")[1].split(" /")[0]) for mark in _marks("kernel-truth.json")]
    clock = iter([0.0, *begins])
    schedule = Schedule(1.0, clock=lambda: next(clock))

    assert [schedule.phase for _ in begins] == list(Phase)


def test_the_teams_dashboard_does_not_give_the_leak_away() -> None:
    shown = json.dumps(
        [MODELS["service-health.json"][part] for part in ("title", "description", "panels", "annotations")]
    )
    alone = dashboards(truth=False, datasource_uid=DATASOURCE_UID)

    assert not re.search(
        r"leak(?!er)|kernel|native|ebpf", re.sub(r"memleak-lab|where a Python service leaks", "", shown), re.IGNORECASE
    )
    assert list(alone) == ["service-health.json"]
    assert "memleak-lab-kernel" not in alone["service-health.json"]


def _marks(name: str) -> list[dict[str, Any]]:
    marks: list[dict[str, Any]] = MODELS[name]["annotations"]["list"]
    return marks


@pytest.mark.parametrize("name", QUERYING)
def test_marks_are_read_as_points_in_time(name: str) -> None:
    assert len(_marks(name)) == len(Phase)
    assert all(mark["useValueForTime"] and mark["enable"] and not mark["hide"] for mark in _marks(name))
    assert all(mark["target"]["expr"].startswith("1000 * (") for mark in _marks(name)), (
        "Grafana's times are milliseconds"
    )


def test_links_are_seen_and_not_hidden_in_a_menu() -> None:
    links = [
        link for each in MODELS.values() for holder in (each, *each["panels"]) for link in holder.get("links") or ()
    ]

    assert links
    assert not any("placement" in link for link in links)


def test_links_lead_to_dashboards_and_panels_that_exist() -> None:
    known = {each["uid"]: {panel["id"] for panel in each["panels"]} for each in MODELS.values()}
    urls = [
        link["url"]
        for each in MODELS.values()
        for holder in (each, *each["panels"])
        for link in holder.get("links") or ()
    ]

    assert urls
    for url in urls:
        match = re.fullmatch(r"/d/([\w-]+)(?:\?viewPanel=panel-(\d+))?", url)
        assert match, url
        assert match[1] in known
        assert match[2] is None or int(match[2]) in known[match[1]]


def test_recorded_series_that_panels_read_are_recorded() -> None:
    recorded = set(re.findall(r"record: (\S+)", "".join(rules(truth=True).values())))
    read = set(re.findall(r"\b(?:pod|function):\w+:\w+", FILES["kernel-truth.json"]))

    assert read
    assert read <= recorded
    assert not re.search(r"\b(?:pod|function):\w+:\w+", FILES["service-health.json"]), "it works without the rules"
