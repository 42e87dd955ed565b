from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.running_service import END_OF_DEGRADED_BYTES, running_service
from tests.support.waiting import wait_until

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
    """A service that holds what has leaked by the end of the degraded phase, and leaks no more."""
    with running_service(LAB_SPEED="1000", LAB_CAP_BYTES=str(END_OF_DEGRADED_BYTES)) as service:
        wait_until(
            lambda: (
                service.ledger()["phase"] == "diagnosis" and service.ledger()["bytes_live"] == END_OF_DEGRADED_BYTES
            ),
            "the degraded phase ends",
        )
        yield service
