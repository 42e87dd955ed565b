"""Labs in the cluster of KUBECONFIG, each in a namespace of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from infra.settings import DEFAULTS
from tests.system.kubernetes.harness import push, recorded

if TYPE_CHECKING:
    from tests.system.kubernetes.harness import Lab, Pushed


class Declare(Protocol):
    """`declare("memleak-lab-test", speed=60)`: the lab with these settings, for this cluster."""

    def __call__(self, namespace: str, /, **settings: object) -> Lab: ...


@pytest.fixture(scope="session")
def pushed(image: str) -> Pushed:
    """The lab's image, where the nodes pull it."""
    return push(image, DEFAULTS["imageName"])


@pytest.fixture(scope="session")
def declare(pushed: Pushed, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Declare:
    """The program's objects for this cluster. Grafana's image is large and not to be had everywhere: it stays out."""
    directory = tmp_path_factory.mktemp("program")

    def call(namespace: str, /, **settings: object) -> Lab:
        return recorded(directory, pushed, base_image, namespace, **{"grafana": False, "speed": 60, **settings})

    return call
