"""What the dashboards of the story show at a moment, by a panel's title."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.prometheus.cluster import place as place_in_file
from tests.system.prometheus.story import Place

if TYPE_CHECKING:
    from tests.support.screen import Screen, Shown

HEALTH, KERNEL_TRUTH = "service-health.json", "kernel-truth.json"
FAST = {Place.DOCKER: "", Place.CLUSTER: "leaker-fast"}
# The tracer knows names; the cluster's gadget knows the file and the offset in it.
LEAKS = {
    Place.DOCKER: "catalog_cache_insert",
    Place.CLUSTER: place_in_file("_catalog_cache.abi3.so", "catalog_cache_insert"),
}
PLACES = pytest.mark.parametrize("place", list(Place))


def only(screen: Screen, title: str, at: float) -> Shown:
    (shown,) = screen.show(title, at)
    return shown


def line(screen: Screen, title: str, name: str, at: float) -> Shown:
    (shown,) = (shown for shown in screen.show(title, at) if shown.name.startswith(name))
    return shown


def holders(screen: Screen, at: float) -> list[Shown]:
    """The row of the table: outstanding, allocations, frees, and the part that was never given back."""
    return screen.show("Who holds it", at)
