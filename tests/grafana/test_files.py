"""Provisioning, the guide's pages, and the files that `python -m grafana` writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from grafana import DATASOURCE_UID, Pace, dashboards, provisioning
from grafana.__main__ import GUIDE, main
from grafana.guide import Page, pages

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("speed", "scrape", "window", "shown"),
    [
        (0.1, "5s", "50m", "now-600m"),
        (1, "5s", "5m", "now-60m"),
        (2, "2s", "150s", "now-30m"),
        (60, "1s", "5s", "now-5m"),
        (1000, "1s", "4s", "now-5m"),
    ],
)
def test_intervals_follow_the_speed(speed: float, scrape: str, window: str, shown: str) -> None:
    pace = Pace(speed)

    assert (pace.scrape_interval, pace.window(300), pace.time_range) == (scrape, window, shown)


def test_grafana_learns_its_data_source_and_where_its_dashboards_are() -> None:
    files = provisioning("http://prometheus:9090", "/dashboards", speed=60)
    datasource = yaml.safe_load(files["datasources/prometheus.yaml"])
    provider = yaml.safe_load(files["dashboards/memleak-lab.yaml"])

    assert datasource["apiVersion"] == provider["apiVersion"] == 1
    (source,) = datasource["datasources"]
    assert (source["uid"], source["url"], source["type"]) == (DATASOURCE_UID, "http://prometheus:9090", "prometheus")
    assert source["jsonData"]["timeInterval"] == "1s", "$__rate_interval is made from it"
    assert [(each["type"], each["options"]["path"]) for each in provider["providers"]] == [("file", "/dashboards")]


def test_a_page_is_a_section_and_code_is_no_heading() -> None:
    guide = (
        "# The guide\n\nFour tools.\n\n## bpftrace\n\n```sh\n## not a heading\n```\n\n## Empty\n\n## perf\n\nLast.\n"
    )

    assert pages(guide) == [
        Page("The guide", "Four tools."),
        Page("bpftrace", "```sh\n## not a heading\n```"),
        Page("perf", "Last."),
    ]


def test_the_guide_is_a_dashboard_of_its_pages() -> None:
    files = dashboards(truth=True, datasource_uid="x", guide="# Guide\n\nA.\n\n## How to trace\n\nB.\n")
    guide = json.loads(files["ebpf-guide.json"])
    links = {
        link["url"] for panel in json.loads(files["kernel-truth.json"])["panels"] for link in panel.get("links") or ()
    }

    assert [(panel["title"], panel["options"]["content"]) for panel in guide["panels"]] == [
        ("Guide", "A."),
        ("How to trace", "B."),
    ]
    assert links == {"/d/memleak-lab-guide?viewPanel=panel-2", "/d/memleak-lab-guide"}


def test_links_within_the_guide_lead_from_page_to_page() -> None:
    guide = (
        "# Guide\n\n[How](#what-it-costs), [more](MORE.md), [out](https://example.com/x).\n\n## What it costs\n\nB.\n"
    )
    files = dashboards(truth=True, datasource_uid="x", guide=guide)

    assert json.loads(files["ebpf-guide.json"])["panels"][0]["options"]["content"] == (
        "[How](/d/memleak-lab-guide?viewPanel=panel-2), more (`docs/MORE.md`), [out](https://example.com/x)."
    )


def test_a_link_to_a_section_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="#nowhere; its sections are guide, how"):
        dashboards(truth=True, datasource_uid="x", guide="# Guide\n\n[Go](#nowhere)\n\n## How\n\nB.\n")


def test_the_projects_own_guide_has_the_pages_that_panels_link_to() -> None:
    files = dashboards(truth=True, datasource_uid="x", guide=GUIDE.read_text())
    titles = [panel["title"] for panel in json.loads(files["ebpf-guide.json"])["panels"]]
    links = {
        link["title"]: link["url"]
        for panel in json.loads(files["kernel-truth.json"])["panels"]
        for link in panel.get("links") or ()
    }

    assert {title: titles[int(url.rpartition("-")[2]) - 1] for title, url in links.items()} == {
        "How to trace this yourself": "Choose your tool",
        "Why the service saw nothing": "Why the application's metrics saw nothing",
    }


def test_without_a_guide_nothing_links_to_it() -> None:
    files = dashboards(truth=True, datasource_uid="x")

    assert set(files) == {"service-health.json", "kernel-truth.json"}
    assert "memleak-lab-guide" not in files["kernel-truth.json"]


def test_the_files_are_written_and_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "grafana", "--output", tmp_path / "out", "--speed", "60", "--no-truth"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {
        "dashboards/service-health.json",
        "rules/team.rules.yml",
        "provisioning/datasources/prometheus.yaml",
        "provisioning/dashboards/memleak-lab.yaml",
    }
    assert {Path(line).relative_to(tmp_path / "out").as_posix() for line in done.stdout.splitlines()} == written
    assert not done.stderr


def test_the_files_are_those_of_the_functions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guide = tmp_path / "EBPF_GUIDE.md"
    guide.write_text("# Guide\n\nA.\n")

    assert main(["--output", str(tmp_path), "--speed", "60", "--memory-limit-mib", "512"], guide=guide) == 0

    expected = dashboards(True, DATASOURCE_UID, speed=60, memory_limit_bytes=512 * 2**20, guide="# Guide\n\nA.\n")
    assert {path.name: path.read_text() for path in (tmp_path / "dashboards").iterdir()} == expected
    assert "ebpf-guide.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--speed", "0"], "0: it must be a number from 0.1 to 1000"),
        (["--speed", "fast"], "fast"),
        (["--memory-limit-mib", "1"], "1: it must be a whole number from 64 to"),
        ([], "--output"),
    ],
)
def test_a_wrong_option_is_refused(
    arguments: list[str], error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, *(["--output", str(tmp_path)] if arguments else [])])

    assert ended.value.code == 2
    assert error in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")

    assert main(["--output", str(tmp_path / "file")]) == 1

    error = capsys.readouterr().err
    assert str(tmp_path / "file") in error
    assert "--output DIR" in error
