"""Where the image goes, and under which names the daemon, the nodes and the pods know that place."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from infra.environments import CHOICES
from infra.references import DOCKER_HUB, REGISTRY, REPOSITORY, is_loopback

if TYPE_CHECKING:
    from infra.environments import Environment
    from infra.settings import Secret, Settings


class RegistryKind(StrEnum):
    """The ways by which an image reaches a node."""

    LOCAL = "local"
    DOCKER_HUB = "dockerhub"
    HOST = "host"
    NONE = "none"


@dataclass(frozen=True)
class Registry:
    """One place, three names. All are ``host[:port][/path]``, and empty where nothing is pushed.

    ``push`` is Docker's, ``pull`` the nodes', ``pods`` that of a pod which pulls by itself, as Inspektor Gadget's
    daemon does. Without ``password`` Docker's own login is used, and nodes pull with what they have.
    """

    kind: RegistryKind
    push: str = ""
    pull: str = ""
    pods: str = ""
    username: str = ""
    password: Secret | None = None

    @property
    def pushes(self) -> bool:
        """Whether anything leaves the Docker daemon."""
        return self.kind is not RegistryKind.NONE


def read_registry(settings: Settings, environment: Environment | None) -> Registry:
    """The registry of the settings; without an environment (plain Docker) nothing is pushed."""
    written = settings.text("registry")
    local = settings.text("localRegistry", REGISTRY, "localhost:5001")
    pull = settings.text("pullRegistry", REGISTRY, "registry.example.com")
    user = settings.text("dockerhubUser", REPOSITORY, "YOUR_ACCOUNT")
    username = settings.text("registryUsername")
    password = settings.secret("registryPassword")
    try:
        kind = RegistryKind(written if written != RegistryKind.HOST else "")
    except ValueError:
        kind = RegistryKind.HOST
    if kind is RegistryKind.HOST and not REGISTRY.fullmatch(written):
        kind = RegistryKind(settings.choice("registry", (*_NAMED, "a registry's host[:port][/path]")))
    if environment is None:
        return Registry(RegistryKind.NONE)
    match kind:
        case RegistryKind.NONE:
            _require_an_import(settings, environment)
            return Registry(kind)
        case RegistryKind.DOCKER_HUB:
            if not user:
                settings.add_error("registry is dockerhub, with no account:", "pulumi config set dockerhubUser ACCOUNT")
            push = f"{DOCKER_HUB}/{user}"
            username = username or user
            registry = Registry(kind, push, pull or push, pull or push, username, password)
        case RegistryKind.LOCAL:
            nodes = pull or environment.pull_registry or local
            registry = Registry(kind, local, nodes, pull or environment.pod_registry or nodes, username, password)
        case RegistryKind.HOST:
            registry = Registry(kind, written, pull or written, pull or written, username, password)
    if password and not registry.username:
        settings.add_error("registryPassword has no account:", "pulumi config set registryUsername ACCOUNT")
    _require_a_reachable(settings, environment, registry)
    return registry


_NAMED = tuple(kind for kind in RegistryKind if kind is not RegistryKind.HOST)


def _require_an_import(settings: Settings, environment: Environment) -> None:
    if environment.image_import is None:
        settings.add_error(
            f"registry is none, and nobody can copy an image into the nodes of {environment.name}:",
            "pulumi config set registry HOST[/PATH]",
        )


def _require_a_reachable(settings: Settings, environment: Environment, registry: Registry) -> None:
    remote = environment.name in CHOICES and environment.image_import is None
    if remote and is_loopback(registry.pull):
        settings.add_error(
            f"the nodes of {environment.name} cannot pull from {registry.pull}, which is another machine to them:",
            "pulumi config set registry HOST[/PATH]",
        )
