"""A stack of an earlier release is updated: each of its resources is this program's, under its URN or under an alias.

`released/VERSION.json` has the URNs, from the type on, that the program of that release declared for these settings.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.infra.conftest import Record
    from tests.support.recording import Declared

RELEASED = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parent / "released").glob("*.json")}
SETTINGS: dict[str, dict[str, object]] = {
    "kubernetes": {
        "truth": True,
        "replicas": 3,
        "grafanaAdminPassword": "x",
        "registryUsername": "u",
        "registryPassword": "p",
    },
    "docker": {"target": "docker", "truth": True, "grafanaAdminPassword": "x"},
}


def orphans(before: Iterable[str], declared: Iterable[Declared]) -> set[str]:
    """The resources of before that would be deleted, and made anew under another name if at all."""
    known = {urn.split("::", 2)[2] for one in declared for urn in (one.urn, *one.aliases)}
    return set(before) - known


@pytest.mark.parametrize("release", RELEASED)
@pytest.mark.parametrize("target", SETTINGS)
def test_no_resource_of_a_release_is_orphaned(release: str, target: str, recorded: Record) -> None:
    before = RELEASED[release][target]
    assert len(before) > 10
    assert orphans(before, recorded("kind", **SETTINGS[target]).declared) == set()


def test_a_renamed_resource_is_noticed_unless_it_has_an_alias(recorded: Record) -> None:
    declared = recorded("kind", **SETTINGS["docker"]).declared
    (visitors,) = [one for one in declared if one.name == "visitors"]
    before = {visitors.urn.split("::", 2)[2]}
    renamed = replace(visitors, urn=visitors.urn.replace("::visitors", "::guests"))
    assert orphans(before, [renamed]) == before
    assert orphans(before, [replace(renamed, aliases=frozenset({visitors.urn}))]) == set()
