"""A service that runs already: `learn` takes no other program for it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.lab.unprivileged import choose_user
from diagnosis.learn.catalog import CatalogService
from diagnosis.learn.elsewhere import Elsewhere
from diagnosis.target.process import Process

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def service() -> Iterator[CatalogService]:
    with CatalogService(10.0, choose_user(os.environ, os.geteuid()), visitors=False) as running:
        yield running


def test_another_program_beside_the_service_s_addresses_is_refused(service: CatalogService) -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            with pytest.raises(LabError, match=rf"pid {other.pid} is not the catalog service: it is sleep 600: pgrep "):
                Elsewhere(Process(other.pid), service.at, ())
        finally:
            other.kill()


def test_the_service_is_known_by_what_it_has_mapped(service: CatalogService) -> None:
    with Elsewhere(service.process, service.at, ()) as found:
        assert (found.pid, found.speed) == (service.pid, 10.0)
    listed = subprocess.run(["pgrep", "-f", r"python.* -m service$"], capture_output=True, text=True, check=False)
    assert str(service.pid) in listed.stdout.split(), "the line of the error finds it"
