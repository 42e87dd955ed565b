"""Kubeconfigs of every kind of cluster, and recordings of the program, made once for each configuration."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Protocol

import pytest
import yaml

from infra.config import LabConfig
from infra.kubeconfig import Kubeconfig
from infra.settings import SECRETS, Settings
from tests.support.recording import record

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.recording import Recording

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
KIND = Kubeconfig("kind-lab", {"kind-lab": "https://127.0.0.1:1", "prod": "https://192.0.2.1:6443"})
SECRET_KEYS = frozenset(SECRETS)


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


def read_config(
    settings: dict[str, str], kubeconfig: Kubeconfig = KIND, secrets: frozenset[str] = SECRET_KEYS
) -> LabConfig:
    """The configuration of these settings, over the defaults; ``secrets`` are the keys that were set as such."""
    return LabConfig.read(Settings(settings, secrets), kubeconfig)


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the program runs, with a kubeconfig for each kind of cluster."""
    path = tmp_path_factory.mktemp("program")
    for environment, (context, server) in CLUSTERS.items():
        write_kubeconfig(path / f"{environment}.kubeconfig", context, server)
    return path


@pytest.fixture(scope="session")
def recorded_afresh(directory: Path) -> Record:
    """`recorded_afresh("kind", registry="none")`: what the program declares there, in a run of its own."""

    def call(environment: str = "kind", /, **settings: object) -> Recording:
        return record(settings, kubeconfig=directory / f"{environment}.kubeconfig", directory=directory)

    return call


@pytest.fixture(scope="session")
def previewed(directory: Path) -> Record:
    """The same in a preview."""

    def call(environment: str = "kind", /, **settings: object) -> Recording:
        kubeconfig = directory / f"{environment}.kubeconfig"
        return record(settings, kubeconfig=kubeconfig, directory=directory, preview=True)

    return call


@pytest.fixture(scope="session")
def recorded(recorded_afresh: Record) -> Record:
    """The same, run once for each configuration."""

    @functools.cache
    def run(environment: str, settings: tuple[tuple[str, object], ...]) -> Recording:
        return recorded_afresh(environment, **dict(settings))

    def call(environment: str = "kind", /, **settings: object) -> Recording:
        return run(environment, tuple(sorted(settings.items())))

    return call
