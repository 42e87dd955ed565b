from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from tests.support.running_service import running_degraded_service, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.running_service import Service


@pytest.fixture
def service() -> Iterator[Service]:
    """A service in its first phase."""
    with running_service() as service:
        yield service


@pytest.fixture(scope="session")
def degraded_service() -> Iterator[Service]:
    """One for the tests that only ask."""
    with running_degraded_service() as service:
        yield service


@pytest.fixture
def many_files() -> Iterator[int]:
    """As many open files as the system allows; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
