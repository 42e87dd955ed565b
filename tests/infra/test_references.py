"""Image names: taken apart and moved to a mirror as Docker would."""

from __future__ import annotations

import re

import pytest

from infra import versions
from infra.references import REGISTRY, insecure, is_loopback, mirrored, split_host, split_tag, with_digest


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("python:3.13", ("docker.io", "library/python:3.13")),
        ("prom/prometheus:v3", ("docker.io", "prom/prometheus:v3")),
        ("docker.io/grafana/grafana:13", ("docker.io", "grafana/grafana:13")),
        ("localhost/a:1", ("localhost", "a:1")),
        ("localhost:5001/a:1", ("localhost:5001", "a:1")),
        ("registry:5000/team/a@sha256:0", ("registry:5000", "team/a@sha256:0")),
        ("ghcr.io/x/y:1", ("ghcr.io", "x/y:1")),
    ],
)
def test_a_host_is_told_from_a_repository(reference: str, parts: tuple[str, str]) -> None:
    assert split_host(reference) == parts


@pytest.mark.parametrize("repository", ["a", "registry:5000/a", "docker.io/library/a"])
@pytest.mark.parametrize("tag", ["v1", "sha256:0", "v1@sha256:0", ""])
def test_a_tag_is_told_from_a_port_and_a_digest(repository: str, tag: str) -> None:
    mark = "@" if tag.startswith("sha256") else ":" if tag else ""
    assert split_tag(f"{repository}{mark}{tag}") == (repository, tag)


def test_a_mirror_takes_the_place_of_the_host() -> None:
    assert mirrored("python:3.13", "m.example.com/x") == "m.example.com/x/library/python:3.13"
    assert mirrored("oci://ghcr.io/a/b", "m.example.com") == "oci://m.example.com/a/b"
    assert mirrored("python:3.13", "") == "python:3.13"


@pytest.mark.parametrize("registry", ["localhost", "localhost:5001", "127.0.0.1:5000/x", "[::1]:5000"])
def test_loopback_names_mean_this_machine(registry: str) -> None:
    assert is_loopback(registry)


@pytest.mark.parametrize("registry", ["registry.example.com", "localhosts.example.com:5000", "kind-registry:5000"])
def test_other_names_do_not(registry: str) -> None:
    assert not is_loopback(registry)


@pytest.mark.parametrize(
    ("text", "legal"),
    [
        ("eu.gcr.io/project", True),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", True),
        ("lab.azurecr.io/team/x", True),
        ("10.0.0.1:5000", True),
        ("registry:5000", True),
        ("registry", False),
        ("https://registry.example.com", False),
        ("registry.example.com/", False),
        ("registry.example.com/Team", False),
    ],
)
def test_a_registry_is_a_host_with_an_optional_path(text: str, legal: bool) -> None:
    assert bool(REGISTRY.fullmatch(text)) is legal


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("kind-registry:5000/memleak:v1", "kind-registry:5000"),
        ("registry.kube-system.svc.cluster.local/memleak:v1", "registry.kube-system.svc.cluster.local"),
        ("10.245.0.1:5001/memleak:v1", "10.245.0.1:5001"),
        ("ghcr.io/someone/memleak:v1", ""),
        ("lab.azurecr.io/memleak:v1", ""),
    ],
)
def test_only_registries_of_this_machine_or_cluster_go_without_tls(image: str, host: str) -> None:
    assert insecure(image) == host


def test_every_pinned_image_has_a_tag_that_stays() -> None:
    pins = {name: value for name, value in vars(versions).items() if name.endswith("_IMAGE")}
    assert sorted(pins.values()) == sorted(versions.IMAGES)
    for name, pin in pins.items():
        assert re.fullmatch(r"[\w.]+\.io/[\w/-]+:[\w.-]+", pin), name
        assert not pin.endswith(":latest"), name


@pytest.mark.parametrize(
    ("reference", "digest", "named"),
    [
        ("docker.io/a/b:v1", "a/b@sha256:12", "docker.io/a/b:v1@sha256:12"),
        ("docker.io/a/b:v1", "a/b:v1@sha256:12", "docker.io/a/b:v1@sha256:12"),
        ("docker.io/a/b:v1@sha256:34", "a/b@sha256:12", "docker.io/a/b:v1@sha256:12"),
        # An image that was loaded from a file.
        ("docker.io/a/b:v1", "", "docker.io/a/b:v1"),
    ],
)
def test_a_reference_keeps_its_tag_beside_its_digest(reference: str, digest: str, named: str) -> None:
    assert with_digest(reference, digest) == named
