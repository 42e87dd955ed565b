"""Kubeconfigs of every kind of cluster, and recordings of the program, made once for each configuration."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Protocol

import pytest
import yaml

from tests.infra.recording import record

if TYPE_CHECKING:
    from pathlib import Path

    from tests.infra.recording import Recording

# Context names and server addresses as each tool writes them.
CLUSTERS = {
    "kind": ("kind-lab", "https://127.0.0.1:34567"),
    "minikube": ("minikube", "https://192.168.49.2:8443"),
    "docker-desktop": ("docker-desktop", "https://kubernetes.docker.internal:6443"),
    "aks": ("lab", "https://lab-dns-1a2b3c.hcp.westeurope.azmk8s.io:443"),
    "eks": ("arn:aws:eks:eu-west-1:111122223333:cluster/lab", "https://0A1B.gr7.eu-west-1.eks.amazonaws.com"),
    "gke": ("gke_project_europe-west1_lab", "https://203.0.113.7"),
    "openshift": ("default/api-lab-example-com:6443/kube:admin", "https://api.lab.example.com:6443"),
    "generic": ("homelab", "https://192.0.2.10:6443"),
    "gke-autopilot": ("gke_project_europe-west1_autopilot-cluster-1", "https://203.0.113.8"),
    "eks-fargate": ("me@lab-fargate.eu-west-1.eksctl.io", "https://0A1C.gr7.eu-west-1.eks.amazonaws.com"),
}


def pytest_configure(config: pytest.Config) -> None:
    # The SDK warns where it defines the classic model, which is the one that file provisioning reads.
    config.addinivalue_line("filterwarnings", "ignore:Prefer using dashboardv2:DeprecationWarning")


class Record(Protocol):
    def __call__(self, environment: str = "kind", /, **settings: object) -> Recording: ...


def write_kubeconfig(path: Path, context: str, server: str) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [{"name": "the-cluster", "cluster": {"server": server}}],
        "contexts": [{"name": context, "context": {"cluster": "the-cluster", "user": "me"}}],
        "users": [{"name": "me", "user": {}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """`recorded("kind", registry="none")`: what the program declares there. Asked twice, it runs once."""
    directory = tmp_path_factory.mktemp("program")

    @functools.cache
    def run(environment: str, settings: tuple[tuple[str, object], ...]) -> Recording:
        kubeconfig = write_kubeconfig(directory / f"{environment}.kubeconfig", *CLUSTERS[environment])
        return record(dict(settings), kubeconfig=kubeconfig, directory=directory)

    def call(environment: str = "kind", /, **settings: object) -> Recording:
        return run(environment, tuple(sorted(settings.items())))

    return call
