"""A cluster, a registry or an image that was made anew or removed between two updates is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import pulumi
import pytest

from infra import presence
from tests.support.http_server import QuietHandler, serving
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIGEST = "sha256:" + 64 * "a"
URN = "urn:pulumi:dev::memleak-lab::memleak-lab:infra:LabImage$docker:index/image:Image::image"


class Registry:
    """A registry that has what ``held`` names, and refuses every question if ``refuses``."""

    def __init__(self, *held: str, refuses: bool = False, deaf: bool = False) -> None:
        self.held, self.refuses, self.deaf = set(held), refuses, deaf
        self.address = ""

    @contextlib.contextmanager
    def serving(self) -> Iterator[Registry]:
        registry, heard = self, threading.Event()

        class Handler(QuietHandler):
            def do_HEAD(self) -> None:  # noqa: N802 - the library calls it so
                if registry.deaf:
                    heard.wait(20)
                found = self.path in {f"/v2/{one}" for one in registry.held} and "oci" in self.headers["Accept"]
                self.send_response(401 if registry.refuses else 200 if found else 404)
                self.end_headers()

        with serving(Handler) as self.address:
            try:
                yield self
            finally:
                heard.set()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the program logs."""
    lines: list[str] = []
    for severity in ("info", "warn"):
        monkeypatch.setattr(pulumi, severity, lambda text, severity=severity: lines.append(f"{severity}: {text}"))
    return lines


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that are found before the real ones."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def pushed(registry: Registry) -> presence.Pushed:
    return presence.Pushed(f"{registry.address}/memleak-demo:v1", DIGEST, URN)


def keep(registry: Registry, *, preview: bool = False) -> None:
    asyncio.run(presence.keep_pushed(pushed(registry), preview=preview))


def test_a_registry_says_what_it_has() -> None:
    with Registry(f"team/memleak-demo/manifests/{DIGEST}").serving() as registry:
        assert presence.registry_has(f"{registry.address}/team/memleak-demo", DIGEST) is True
        assert presence.registry_has(f"{registry.address}/team/memleak-demo", "sha256:0") is False
        registry.refuses = True
        assert presence.registry_has(f"{registry.address}/team/other", DIGEST) is True, "no reason to doubt"


def test_a_registry_that_is_not_there_or_does_not_answer_is_not_waited_for() -> None:
    assert presence.registry_has(f"127.0.0.1:{free_port()}/memleak-demo", DIGEST) is None
    with Registry(deaf=True).serving() as registry:
        assert presence.registry_has(f"{registry.address}/memleak-demo", DIGEST, seconds=0.2) is None


def test_an_image_that_the_registry_has_is_left_alone(commands: Path, said: list[str]) -> None:
    command(commands, "docker", "touch called")
    with Registry(f"memleak-demo/manifests/{DIGEST}").serving() as registry:
        keep(registry)
    assert said == []


def test_an_image_that_the_registry_lost_is_pushed_again(
    commands: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command(commands, "docker", f'echo "$@" >{commands}/called')
    with Registry().serving() as registry:
        run = presence.run

        def push(words: list[str], seconds: float) -> object:
            registry.held.add(f"memleak-demo/manifests/{DIGEST}")
            return run(words, seconds)

        monkeypatch.setattr(presence, "run", push)
        keep(registry)
        assert (commands / "called").read_text() == f"push {registry.address}/memleak-demo:v1\n"
    assert [line.partition(":")[0] for line in said] == ["info"]


def test_a_preview_pushes_nothing_and_says_that_the_update_will(commands: Path, said: list[str]) -> None:
    command(commands, "docker", f"touch {commands}/called")
    with Registry().serving() as registry:
        keep(registry, preview=True)
    assert not (commands / "called").exists()
    (line,) = said
    assert line.startswith("warn: the registry no longer has ")
    assert "`pulumi up` pushes it again" in line


@pytest.mark.parametrize(
    ("script", "why"),
    [("echo 'An image does not exist locally' >&2; exit 1", "does not exist locally"), ("exit 0", "is another one")],
)
def test_what_cannot_be_pushed_again_is_built_again_by_the_line_to_type(script: str, why: str, commands: Path) -> None:
    command(commands, "docker", script)
    with Registry().serving() as registry, pytest.raises(pulumi.RunError) as raised:
        keep(registry)
    assert why in str(raised.value)
    assert str(raised.value).endswith(f"\n    pulumi up --refresh --replace '{URN}'")


def test_a_registry_that_is_down_is_named_with_the_line_that_starts_one(said: list[str]) -> None:
    asyncio.run(presence.keep_pushed(presence.Pushed(f"127.0.0.1:{free_port()}/a:v1", DIGEST, URN), preview=False))
    (line,) = said
    assert "does not answer" in line
    assert "make kind" in line


def test_an_image_that_docker_lost_is_built_again_by_the_line_to_type(commands: Path) -> None:
    command(commands, "docker", "echo 'Error: No such image: memleak-demo:v1' >&2; exit 1")
    with pytest.raises(pulumi.RunError, match=r"no longer has the image memleak-demo:v1[^\n]*\n +pulumi up --refresh"):
        asyncio.run(presence.require_in_daemon("memleak-demo:v1", URN))
    command(commands, "docker", "exit 0")
    asyncio.run(presence.require_in_daemon("memleak-demo:v1", URN))
    command(commands, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    asyncio.run(presence.require_in_daemon("memleak-demo:v1", URN))


@pytest.mark.parametrize(
    "script", ["echo other", "echo 'Error from server (NotFound): namespaces \"lab\" not found' >&2; exit 1"]
)
def test_a_cluster_that_was_made_anew_is_noticed(script: str, commands: Path) -> None:
    command(commands, "kubectl", f'echo "$@" >{commands}/called; {script}')
    with pytest.raises(pulumi.RunError, match=r"was the cluster made anew[^\n]*\n +pulumi up --refresh$"):
        asyncio.run(presence.require_same_cluster(["kubectl", "--context", "kind-lab"], "lab", "1-2-3"))
    assert (commands / "called").read_text().startswith("--context kind-lab get namespace lab ")


@pytest.mark.parametrize("script", ["echo 1-2-3", "echo 'Unable to connect to the server' >&2; exit 1"])
def test_the_same_cluster_and_one_that_does_not_answer_are_left_alone(script: str, commands: Path) -> None:
    command(commands, "kubectl", script)
    asyncio.run(presence.require_same_cluster(["kubectl"], "lab", "1-2-3"))


def test_a_client_that_is_not_installed_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    asyncio.run(presence.require_same_cluster(["kubectl"], "lab", "1-2-3"))
