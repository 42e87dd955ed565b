"""What goes into a page: data that no parser mistakes, a policy that names its scripts, and what is shown."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from diagnosis.output.comparison import site_changes
from diagnosis.output.document import report_as_json
from diagnosis.output.html_report.contents import Shown, one_report, two_reports
from diagnosis.output.html_report.flame import CUT_SHORT, MOST_STACKS, flame_tree
from diagnosis.output.html_report.page import embedded, render
from diagnosis.output.html_report.sites import MOST_SITES, call_sites
from diagnosis.output.saved import read_capture
from tests.output.reports import (
    CLAIMS,
    FIXED,
    HOSTILE,
    INSERT,
    LEAK,
    MIB,
    OTHERS,
    REFRESH,
    frame,
    hostile,
    moments,
    report,
    stack,
)

if TYPE_CHECKING:
    from pathlib import Path


class Elements(HTMLParser):
    """What a parser of HTML makes of a page: tags with their attributes, and the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._within = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts[-1] += data


PLAIN = Elements(render(one_report(Shown(LEAK))))


# --- the data ---


@pytest.mark.parametrize("text", [HOSTILE, *OTHERS, "\ud800 alone", "é 漢字 \x00\x1b[31m"])
def test_data_in_a_script_come_back_as_they_were_and_end_no_element(text: str) -> None:
    made = embedded({text: [text]})
    assert json.loads(made) == {text: [text]}
    assert made.isascii()
    assert not set("<>&\u2028\u2029") & set(made)


def test_a_hostile_page_has_the_elements_of_any_other() -> None:
    said = moments(4, phase=HOSTILE, status=HOSTILE)
    found = Elements(render(one_report(Shown(hostile(), CLAIMS, said))))
    assert found.tags == PLAIN.tags
    (contents,) = (script for script in found.scripts if script.startswith('{"title"'))
    assert json.loads(contents)["captures"][0]["verdict"]["function"] == HOSTILE


# --- the policy ---


def test_the_policy_forbids_all_but_the_scripts_that_are_in_the_file() -> None:
    (policy,) = (
        attributes["content"] or ""
        for tag, attributes in PLAIN.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = {name: values.split() for name, _, values in (rule.strip().partition(" ") for rule in policy.split(";"))}
    assert rules["default-src"] == ["'none'"]
    assert set(rules) == {
        "default-src",
        "base-uri",
        "form-action",
        "style-src",
        "script-src",
        "require-trusted-types-for",
        "trusted-types",
    }
    run = [
        script
        for script, (_, attributes) in zip(
            PLAIN.scripts, [each for each in PLAIN.tags if each[0] == "script"], strict=True
        )
        if attributes.get("type") != "application/json"
    ]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in run]
    assert rules["script-src"] == [f"'sha256-{each}'" for each in hashes]
    assert len(run) == 3


def test_nothing_in_the_page_is_loaded_from_elsewhere() -> None:
    for tag, attributes in PLAIN.tags:
        assert not {"src", "srcset", "poster", "background"} & set(attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"@import|url\(", render(one_report(Shown(LEAK))).partition("</style>")[0])


# --- what is shown ---


def test_the_flame_graph_has_every_byte_under_its_callers() -> None:
    frames = flame_tree(LEAK.report)
    assert (frames[0]["name"], frames[0]["parent"], frames[0]["value"]) == ("shop", -1, 38 * MIB)
    assert all(each["parent"] < number for number, each in enumerate(frames))

    def callers(number: int) -> list[str]:
        return [] if number < 0 else [frames[number]["name"], *callers(frames[number]["parent"])]

    found = {each["name"]: (callers(number), each) for number, each in enumerate(frames)}
    path, insert = found["cache_insert"]
    assert path == [
        "cache_insert",
        "cache_refresh",
        "handle_request",
        "_PyEval_EvalFrame",
        "main",
        "__libc_start_main",
        "shop",
    ]
    assert (insert["value"], insert["kind"], insert["places"]) == (32 * MIB, "named", ["cache.c:82"])
    assert {
        name: found[name][1]["kind"]
        for name in ("handle_request", "_PyEval_EvalFrame", "xmalloc", "render", "__libc_start_main")
    } == {
        "handle_request": "python",
        "_PyEval_EvalFrame": "passed",
        "xmalloc": "passed",
        "render": "native",
        "__libc_start_main": "passed",
    }
    assert found["parse"][0] == ["parse", CUT_SHORT, "shop"]


def test_a_function_at_two_lines_is_one_frame_with_both() -> None:
    made = report(
        stack(MIB, INSERT, REFRESH),
        stack(MIB, replace(INSERT, line=90), REFRESH),
        verdict=LEAK.report.verdict,
    )
    insert = flame_tree(made)[-1]
    assert (insert["value"], insert["places"]) == (2 * MIB, ["cache.c:82", "cache.c:90"])


def test_what_is_too_much_for_a_page_is_counted() -> None:
    stacks = [stack(10, frame(f"f{i}"), frame("main")) for i in range(MOST_STACKS + 3)]
    made = report(*stacks, verdict=FIXED.report.verdict)
    frames = flame_tree(made)
    assert frames[0]["value"] == 10 * len(stacks)
    assert [each["value"] for each in frames if each["name"] == "[3 smaller stacks]"] == [30]
    sites = call_sites(made)
    assert (len(sites["rows"]), sites["more"]) == (MOST_SITES, len(stacks) - MOST_SITES)


def test_a_site_has_its_lines_of_source_where_the_file_is_here(tmp_path: Path) -> None:
    """The file of a whole path, or of a part of one below a folder that was named; and never one above it."""
    (tmp_path / "src").mkdir()
    source = tmp_path / "src" / "cache.c"
    source.write_text("int a;\nvoid *kept = malloc(1);\nint b;\n")
    for name, folders in ((str(source), ()), ("src/cache.c", (tmp_path,))):
        made = report(stack(MIB, frame("insert", name, 2)), verdict=LEAK.report.verdict)
        (row,) = call_sites(made, folders)["rows"]
        assert row["source"] == [[1, "int a;"], [2, "void *kept = malloc(1);"], [3, "int b;"]]
        assert row["place"] == "cache.c:2"
        changed = source.stat().st_mtime
        assert call_sites(made, folders, changed + 1)["rows"][0]["source"] == row["source"]
        assert call_sites(made, folders, changed - 1)["rows"][0]["source"] == []  # not what was traced
    outside = report(stack(MIB, frame("insert", "../src/cache.c", 2)), verdict=LEAK.report.verdict)
    assert call_sites(outside, (tmp_path / "src",))["rows"][0]["source"] == []
    assert call_sites(outside)["rows"][0]["source"] == []


def test_a_run_has_the_claims_the_kernel_and_the_ledger_over_the_story() -> None:
    memory, lookups = one_report(Shown(LEAK, CLAIMS, moments(40)))["captures"][0]["story"]
    truth, ledger, claim = (each["values"] for each in memory["series"])
    assert (truth[0], truth[-1]) == (31 * MIB, 421 * MIB)
    assert (ledger[0], ledger[-1]) == (0, 390 * MIB)
    assert set(claim) == {31 * MIB}
    assert memory["x"][-1] == 39 * 1.5
    assert memory["marks"] == [{"at": 30.0, "text": "degraded"}]
    assert memory["band"] == {"from": 35 * 1.5, "to": 39 * 1.5, "text": "traced"}
    assert lookups["series"][0]["values"][0] == pytest.approx(4.0)


def test_a_window_s_lines_begin_at_nothing_and_a_saved_report_has_them_too(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(report_as_json(LEAK, everything=True))
    (chart,) = one_report(Shown(read_capture(file)))["captures"][0]["window"]
    resident, kept = (each["values"] for each in chart["series"])
    assert resident == kept == [i * 2 * MIB for i in range(21)]


def test_a_report_of_an_earlier_version_has_no_line(tmp_path: Path) -> None:
    document = json.loads(report_as_json(LEAK, everything=True))
    del document["timeline"]
    file = tmp_path / "report.json"
    file.write_text(json.dumps(document))
    assert one_report(Shown(read_capture(file)))["captures"][0]["window"] == []


def test_a_comparison_has_the_rates_of_both() -> None:
    changes = two_reports(LEAK, FIXED)["changes"]
    assert changes["rows"][0] == {
        "function": "cache_insert",
        "caller": "cache_refresh",
        "before": 192 * MIB,
        "after": 0.0,
    }
    assert changes["before"] == sum(old for _, old, _ in site_changes(LEAK.report, FIXED.report))
