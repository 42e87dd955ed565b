"""`make kind`: the registry's images outlive the cluster, until they are purged."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

from infra.versions import REGISTRY_IMAGE, pinned
from tests.support.recording import ROOT

DATA = "/var/lib/registry"


class Run(Protocol):
    def __call__(self, *arguments: str, running: bool = False) -> list[list[str]]: ...


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run("delete")`: what the script asks of docker, kind and kubectl, which do nothing."""
    log = tmp_path / "asked"
    for program in ("docker", "kind", "kubectl"):
        script = tmp_path / program
        script.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "{program} $*" >>{log}\n'
            'case "$*" in *State.Running*) echo "$RUNNING";; "get nodes"*) echo a-node;; esac\n'
            # kubectl and `docker exec` are given text.
            'case "$*" in *--filename*|*--interactive*) cat >/dev/null;; esac\n'
        )
        script.chmod(0o755)

    def call(*arguments: str, running: bool = False) -> list[list[str]]:
        log.write_text("")
        python = Path(sys.executable).parent
        environ = {**os.environ, "PATH": f"{tmp_path}:{python}:/usr/bin:/bin", "RUNNING": str(running).lower()}
        environ["KIND_CLUSTER"] = "memleak-lab"
        subprocess.run(
            [ROOT / "scripts" / "kind", *arguments], env=environ, check=True, capture_output=True, timeout=60
        )
        return [line.split() for line in log.read_text().splitlines() if line.startswith(("docker", "kind"))]

    return call


def test_the_registry_keeps_its_images_in_a_volume_with_a_name(run: Run) -> None:
    (started,) = [words for words in run() if words[:2] == ["docker", "run"]]
    assert started[started.index("--volume") + 1] == f"kind-registry:{DATA}"
    assert started[-1] == pinned(REGISTRY_IMAGE)
    assert "127.0.0.1:5001:5000" in started


def test_a_registry_that_runs_is_left_alone(run: Run) -> None:
    asked = run(running=True)
    assert not [words for words in asked if words[:2] in (["docker", "run"], ["docker", "rm"])]


def test_delete_removes_cluster_and_registry_and_keeps_the_images(run: Run) -> None:
    asked = run("delete")
    assert ["kind", "delete", "cluster", "--name", "memleak-lab"] in asked
    # Its --volumes are the ones without a name.
    assert shlex.split("docker rm --force --volumes kind-registry") in asked
    assert not [words for words in asked if words[:2] == ["docker", "volume"]]


def test_purge_removes_the_images_too(run: Run) -> None:
    assert run("purge") == [*run("delete"), shlex.split("docker volume rm --force kind-registry")]
