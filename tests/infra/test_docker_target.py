"""The lab as containers: what each may do, and that its files are there to be read."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from infra.docker_target import render
from tests.infra.cases import PASSWORD
from tests.support.recording import ROOT

if TYPE_CHECKING:
    from tests.infra.conftest import Record
    from tests.support.recording import Recording

CONTAINER = "docker:index/container:Container"


def _containers(recording: Recording) -> dict[str, dict[str, Any]]:
    return {one.name: one.inputs for one in recording.of_type(CONTAINER)}


def test_the_same_parts_run_as_containers_and_nothing_asks_for_a_cluster(recorded: Record) -> None:
    recording = recorded("kind", target="docker")
    assert set(_containers(recording)) == {"leaker", "visitors", "prometheus", "grafana"}
    assert not [one for one in recording.declared if one.type.startswith(("kubernetes:", "pulumi:providers:kube"))]
    (image,) = recording.of_type("docker:index/image:Image")
    assert image.inputs["skipPush"] is True


def test_containers_can_do_little_and_are_reached_from_this_machine_only(recorded: Record) -> None:
    for name, one in _containers(recorded("kind", target="docker")).items():
        assert one["readOnly"] is True, name
        assert one["user"] == ("10001:10001" if name in {"leaker", "visitors"} else "65534:65534")
        assert one["capabilities"] == {"drops": ["ALL"]}
        assert one["securityOpts"] == ["no-new-privileges:true"]
        assert "uploads" not in one, "Docker refuses uploads into a read-only root"
        assert "privileged" not in one
        assert one["memory"] == one["memorySwap"] > 0
        assert all(port["ip"] == "127.0.0.1" for port in one.get("ports", []))
        assert all(mount["readOnly"] and mount["type"] == "bind" for mount in one.get("mounts", []))
        assert [network["aliases"] for network in one["networksAdvanced"]] == [[name]]


def test_published_ports_are_those_of_the_urls_and_differ(recorded: Record) -> None:
    recording = recorded("kind", target="docker")
    published = [port["external"] for one in _containers(recording).values() for port in one.get("ports", [])]
    assert len(published) == len(set(published))
    for url in recording.outputs["urls"].values():
        assert int(url.split(":")[2].split("/")[0]) in published
    assert recording.outputs["port_forward_commands"] == {}


def test_the_leaker_has_the_limit_that_its_claims_divide_by(recorded: Record) -> None:
    leaker = _containers(recorded("kind", target="docker", capMiB=100))["leaker"]
    variables = dict(variable.split("=", 1) for variable in leaker["envs"])
    assert int(variables["LAB_MEMORY_LIMIT_BYTES"]) == leaker["memory"] * 2**20 == 612 * 2**20


def test_mounted_files_are_what_the_programs_read(recorded: Record) -> None:
    containers = _containers(recorded("kind", target="docker"))
    folders = {mount["target"]: Path(mount["source"]) for one in containers.values() for mount in one.get("mounts", [])}
    prometheus = yaml.safe_load((folders["/etc/prometheus"] / "prometheus.yml").read_text())
    assert prometheus["scrape_configs"][0]["static_configs"] == [{"targets": ["leaker:9090"]}]
    datasources = yaml.safe_load((folders["/etc/grafana/provisioning"] / "datasources/prometheus.yaml").read_text())
    assert datasources["datasources"][0]["url"] == "http://prometheus:9090"
    dashboards = list(folders["/var/lib/grafana-dashboards"].glob("*.json"))
    assert dashboards
    assert all(json.loads(path.read_text())["panels"] for path in dashboards)


def test_with_truth_prometheus_asks_the_tracer_on_the_host_that_the_output_starts(recorded: Record) -> None:
    recording = recorded("kind", target="docker", truth=True)
    containers = _containers(recording)
    (mount,) = containers["prometheus"]["mounts"]
    jobs = yaml.safe_load((Path(mount["source"]) / "prometheus.yml").read_text())["scrape_configs"]
    assert {job["job_name"]: job["static_configs"] for job in jobs}["tracer"] == [
        {"targets": ["host.docker.internal:9435"]}
    ]
    assert containers["prometheus"]["hosts"] == [{"host": "host.docker.internal", "ip": "host-gateway"}]
    assert not any(one.get("hosts") for name, one in containers.items() if name != "prometheus")
    assert "trace --container memleak-demo-leaker --listen" in recording.outputs["tracer_command"]
    assert recording.outputs["tracer_command"].endswith(':9435"')


def test_grafana_reaches_a_prometheus_of_ones_own_on_this_machine(recorded: Record) -> None:
    url = "http://host.docker.internal:9090"
    containers = _containers(recorded("kind", target="docker", prometheus=False, prometheusUrl=url))
    assert containers["grafana"]["hosts"] == [{"host": "host.docker.internal", "ip": "host-gateway"}]
    assert not any(one.get("hosts") for name, one in containers.items() if name != "grafana")
    folders = {mount["target"]: Path(mount["source"]) for mount in containers["grafana"]["mounts"]}
    datasources = yaml.safe_load((folders["/etc/grafana/provisioning"] / "datasources/prometheus.yaml").read_text())
    assert datasources["datasources"][0]["url"] == url


def test_without_truth_no_container_knows_the_host(recorded: Record) -> None:
    recording = recorded("kind", target="docker")
    assert not any(one.get("hosts") for one in _containers(recording).values())
    assert "tracer_command" not in recording.outputs


def test_a_changed_file_changes_the_mount_and_the_label_that_replaces_the_container(
    recorded: Record, recorded_afresh: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _containers(recorded("kind", target="docker"))
    monkeypatch.setattr("infra.monitoring.dashboards", lambda *_, **__: {"other.json": "{}"})
    after = _containers(recorded_afresh("kind", target="docker"))
    assert {name for name in before if before[name] != after[name]} == {"grafana"}
    changed = {key for key in before["grafana"] if before["grafana"][key] != after["grafana"][key]}
    assert changed == {"mounts", "labels"}
    for container in (before["grafana"], after["grafana"]):
        assert all(Path(mount["source"]).is_dir() for mount in container["mounts"]), "both sets of files are there"


def test_rendered_files_can_be_read_by_anybody_under_any_umask(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        folder = render({"a/b.yaml": "text"}, tmp_path)
    finally:
        os.umask(mask)
    assert render({"a/b.yaml": "text"}, tmp_path) == folder
    assert [path.name for path in (folder / "a").iterdir()] == ["b.yaml"]
    assert render({"a/b.yaml": "other"}, tmp_path) != folder
    assert stat.S_IMODE((folder / "a/b.yaml").stat().st_mode) == 0o644
    assert stat.S_IMODE((folder / "a").stat().st_mode) == stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_a_file_that_was_not_written_to_its_end_is_written_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, text: str, **_: object) -> int:
        with path.open("w") as file:
            file.write(text[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", half)
        with pytest.raises(OSError, match="No space"):
            render({"b.yaml": "text"}, tmp_path)
    assert (render({"b.yaml": "text"}, tmp_path) / "b.yaml").read_text() == "text"


def test_every_health_check_is_a_containers_own_with_every_field_said(recorded: Record) -> None:
    containers = _containers(recorded("kind", target="docker"))
    checks = {name: one["healthcheck"] for name, one in containers.items() if "healthcheck" in one}
    # Visitors serve nothing that could be asked.
    assert checks.keys() == containers.keys() - {"visitors"}
    for name, check in checks.items():
        assert check.keys() == {"tests", "interval", "timeout", "startPeriod", "retries"}, name
        assert check["tests"][0] == "CMD"
        assert containers[name]["wait"] is True
        start, interval, timeout = (int(check[key].removesuffix("s")) for key in ("startPeriod", "interval", "timeout"))
        assert start + (interval + timeout) * check["retries"] < containers[name]["waitTimeout"], name
    assert containers["visitors"]["wait"] is False


def test_the_image_has_no_health_check_that_shows_through_in_the_visitors() -> None:
    lines = (ROOT / "service" / "Dockerfile").read_text().splitlines()
    assert not [line for line in lines if line.startswith("HEALTHCHECK")]


def test_pulled_images_are_named_by_tag_and_digest_so_that_a_pruned_one_is_pulled_again(recorded: Record) -> None:
    recording = recorded("kind", target="docker")
    pulled = {one.name: one.inputs["name"] for one in recording.of_type("docker:index/remoteImage:RemoteImage")}
    containers = _containers(recording)
    assert pulled.keys() == {"prometheus", "grafana"}
    for name, tag in pulled.items():
        assert re.fullmatch(rf"{re.escape(tag)}@sha256:[0-9a-f]{{64}}", containers[name]["image"])


def test_grafana_has_an_admin_only_with_a_password(recorded: Record) -> None:
    def variables(**settings: object) -> dict[str, str]:
        grafana = _containers(recorded("kind", target="docker", **settings))["grafana"]
        return dict(variable.split("=", 1) for variable in grafana["envs"])

    without, with_one = variables(), variables(grafanaAdminPassword=PASSWORD)
    assert without["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == without["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert without["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert "GF_SECURITY_ADMIN_PASSWORD" not in without
    assert with_one["GF_SECURITY_ADMIN_PASSWORD"] == PASSWORD
    assert with_one["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == with_one["GF_AUTH_DISABLE_LOGIN_FORM"] == "false"
