from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.grafana.server import WITHOUT_PROMETHEUS, running_prometheus
from tests.grafana.story import told, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.grafana.server import Prometheus
    from tests.grafana.story import Story


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The hour's story, told once: 75 seconds."""
    if reason := why_not():
        pytest.skip(reason)
    with told(tmp_path_factory.mktemp("story")) as story:
        yield story


@pytest.fixture(scope="session")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes nobody: its parser is asked about expressions."""
    if not shutil.which("prometheus"):
        pytest.skip(WITHOUT_PROMETHEUS)
    with running_prometheus(tmp_path_factory.mktemp("parser"), [], {}) as prometheus:
        yield prometheus
