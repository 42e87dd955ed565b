"""A stack of an earlier release is updated: each of its resources is this program's, and none is replaced.

`released/VERSION.json` has the URNs, from the type on, that the program of that release declared for these settings,
each with what would replace the resource if it changed. `python -m tests.infra.test_released VERSION` writes it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.conftest import CLUSTERS, write_kubeconfig
from tests.support.recording import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.infra.conftest import Record
    from tests.support.recording import Declared

FOLDER = Path(__file__).parent / "released"
RELEASED = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
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
# What neither Kubernetes nor Docker changes in an object that is there, by its path in the inputs.
REPLACED_BY = ("metadata.name", "metadata.namespace", "spec.clusterIP", "roleRef", "type", "name", "namespace")
# Their names say what they hold: another version is another name, and replaces them on purpose.
NAMED_BY_CONTENT = ("kubernetes:core/v1:ConfigMap::gadget-instance", "docker:index/remoteImage:RemoteImage::")


def identity(one: Declared) -> dict[str, Any]:
    """What replaces the resource when it changes."""
    paths = (*REPLACED_BY, "spec.selector") if one.kind == "Deployment" else REPLACED_BY
    found = {path: _at(one.inputs, path) for path in paths}
    return {path: value for path, value in found.items() if value is not None}


def _at(inputs: Any, path: str) -> Any:  # noqa: ANN401 - any JSON value
    for key in path.split("."):
        inputs = inputs.get(key) if isinstance(inputs, dict) else None
    return inputs


def suffix(urn: str) -> str:
    """The URN without stack and project."""
    return urn.split("::", 2)[2]


def replaced(before: Mapping[str, dict[str, Any]], declared: Iterable[Declared]) -> set[str]:
    """The resources of before that would be deleted and made anew under the same URN or an alias."""
    now = {suffix(urn): identity(one) for one in declared for urn in (one.urn, *one.aliases)}
    return {
        urn
        for urn in before.keys() & now.keys()
        if before[urn] != now[urn] and not any(part in urn for part in NAMED_BY_CONTENT)
    }


def orphans(before: Iterable[str], declared: Iterable[Declared]) -> set[str]:
    """The resources of before that would be deleted, and made anew under another name if at all."""
    known = {suffix(urn) for one in declared for urn in (one.urn, *one.aliases)}
    return set(before) - known


@pytest.mark.parametrize("release", RELEASED)
@pytest.mark.parametrize("target", SETTINGS)
def test_no_resource_of_a_release_is_orphaned(release: str, target: str, recorded: Record) -> None:
    before = RELEASED[release][target]
    assert len(before) > 10
    assert orphans(before, recorded("kind", **SETTINGS[target]).declared) == set()


@pytest.mark.parametrize("release", RELEASED)
@pytest.mark.parametrize("target", SETTINGS)
def test_no_resource_of_a_release_is_replaced(release: str, target: str, recorded: Record) -> None:
    before = RELEASED[release][target]
    assert sum(map(len, before.values())) > 5
    assert replaced(before, recorded("kind", **SETTINGS[target]).declared) == set()


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("Deployment", "leaker", "spec.selector"),
        ("Service", "leaker-headless", "spec.clusterIP"),
        ("RoleBinding", "prometheus", "roleRef"),
        ("Secret", "pull-secret-1a2b3c4d", "type"),
    ],
)
def test_a_change_that_replaces_is_noticed(kind: str, name: str, path: str, recorded: Record) -> None:
    declared = recorded("kind", **SETTINGS["kubernetes"]).declared
    (one,) = [one for one in declared if one.is_kubernetes_object and (one.kind, one.object_name) == (kind, name)
              and one.namespace == "memleak-demo"]  # fmt: skip
    before = {suffix(one.urn): {**identity(one), path: "another"}}
    assert replaced(before, declared) == {suffix(one.urn)}


def test_a_renamed_resource_is_noticed_unless_it_has_an_alias(recorded: Record) -> None:
    declared = recorded("kind", **SETTINGS["docker"]).declared
    (visitors,) = [one for one in declared if one.name == "visitors"]
    before = {suffix(visitors.urn)}
    renamed = replace(visitors, urn=visitors.urn.replace("::visitors", "::guests"))
    assert orphans(before, [renamed]) == before
    assert orphans(before, [replace(renamed, aliases=frozenset({visitors.urn}))]) == set()


def main(release: str) -> None:
    """Write what the program as it is declares, as that release's record."""
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = write_kubeconfig(Path(folder, "kubeconfig"), *CLUSTERS["kind"])
        taken = {
            target: {
                suffix(one.urn): identity(one)
                for one in sorted(
                    record(settings, kubeconfig=kubeconfig, directory=Path(folder)).declared,
                    key=lambda one: suffix(one.urn),
                )
            }
            for target, settings in SETTINGS.items()
        }
    (FOLDER / f"{release}.json").write_text(json.dumps(taken, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
