from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.prometheus import WITHOUT_PROMETHEUS, running_prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.prometheus import Prometheus


@pytest.fixture(scope="session")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes nobody: its parser is asked about expressions."""
    if not shutil.which("prometheus"):
        pytest.skip(WITHOUT_PROMETHEUS)
    with running_prometheus(tmp_path_factory.mktemp("parser"), [], {}) as prometheus:
        yield prometheus
