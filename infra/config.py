"""The stack's configuration, read once, checked as a whole, and handed down frozen."""

from __future__ import annotations

import ipaddress
import platform
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from infra.environments import BY_NAME, CHOICES, recognise
from infra.gadgets import read_gadget
from infra.references import REFERENCE, REGISTRY, REPOSITORY
from infra.registries import read_registry
from infra.versions import ThirdParty

if TYPE_CHECKING:
    from infra.environments import Environment
    from infra.gadgets import Gadget
    from infra.kubeconfig import Kubeconfig
    from infra.registries import Registry
    from infra.settings import Secret, Settings

KIB: Final = 1024
MIB: Final = 1024 * KIB
# What the interpreter, the server and the allocator's own needs take besides the leak: 60 MiB at start, and room.
HEADROOM_MIB: Final = 512
MOST_MIB: Final = 65536

_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_URL = re.compile(r"https?://[^\s/]+(?:/\S*)?")
# What `uname -m` and other systems call the two processors.
_PLATFORMS = {
    "x86_64": "linux/amd64",
    "amd64": "linux/amd64",
    "aarch64": "linux/arm64",
    "arm64": "linux/arm64",
}
_RESERVED_NAMESPACES = frozenset({"default", "gadget", "kube-system", "kube-public", "kube-node-lease"})


class Target(StrEnum):
    """Where the lab runs."""

    KUBERNETES = "kubernetes"
    DOCKER = "docker"


@dataclass(frozen=True)
class Leak:
    """The story's pace and size. The whole leak fits into the limit: nothing kills the pod in the lab's time."""

    speed: float
    chunk_bytes: int
    cap_bytes: int
    memory_limit_bytes: int


@dataclass(frozen=True)
class Build:
    """How the image is built. ``network`` is empty for Docker's own choice."""

    name: str
    base: str
    network: str
    platform: str


@dataclass(frozen=True)
class Cluster:
    """Where in Kubernetes: the kubeconfig's context, and the kind of cluster behind it.

    ``nodes`` are the networks, in CIDR notation, in which its nodes and its API server are; empty: not known.
    """

    context: str
    environment: Environment
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class LabConfig:
    """Everything that the stack's configuration decides.

    ``cluster`` is None with target docker. ``replicas`` are the service's pods, of which one leaks. ``prometheus_url``
    is empty where the lab's own Prometheus is declared.
    """

    cluster: Cluster | None
    namespace: str
    registry: Registry
    build: Build
    third_party: ThirdParty
    leak: Leak
    replicas: int
    prometheus: bool
    prometheus_url: str
    grafana: bool
    grafana_admin_password: Secret | None
    gadget: Gadget
    truth: bool

    @classmethod
    def read(cls, settings: Settings, kubeconfig: Kubeconfig, machine: str = "") -> LabConfig:
        """Check every setting and every pair that must agree.

        ``machine`` is the processor of the machine that builds, as `uname -m` has it; empty: this one's.

        Raises:
            ConfigError: with each error and the line that fixes it.
        """
        target = Target(settings.choice("target", tuple(Target)))
        cluster = _read_cluster(settings, kubeconfig, target)
        environment = cluster.environment if cluster else None
        mirror = settings.text("mirror", REGISTRY, "mirror.example.com")
        third_party = ThirdParty(mirror, digests=settings.flag("digests"))
        registry = read_registry(settings, environment)
        prometheus, grafana = settings.flag("prometheus"), settings.flag("grafana")
        config = cls(
            cluster=cluster,
            namespace=_read_namespace(settings),
            registry=registry,
            build=_read_build(settings, environment, third_party, machine or platform.machine()),
            third_party=third_party,
            leak=_read_leak(settings),
            replicas=settings.integer("replicas", 1, 100, "pods"),
            prometheus=prometheus,
            prometheus_url=_read_prometheus_url(settings, prometheus=prometheus, grafana=grafana),
            grafana=grafana,
            grafana_admin_password=settings.secret("grafanaAdminPassword"),
            gadget=read_gadget(settings, registry, third_party, in_cluster=cluster is not None),
            truth=settings.flag("truth"),
        )
        _require_companions(settings, config)
        settings.raise_errors()
        return config

    def image(self, pin: str) -> str:
        """A third-party image as this stack names it."""
        return self.third_party.image(pin)


def _read_cluster(settings: Settings, kubeconfig: Kubeconfig, target: Target) -> Cluster | None:
    written = settings.choice("environment", CHOICES, [kind.name for kind in BY_NAME.values() if kind.refusal])
    asked = settings.text("context")
    nodes = _read_networks(settings)
    if target is Target.DOCKER:
        return None
    context = asked or kubeconfig.current
    known = ", ".join(sorted(kubeconfig.servers)) or "none"
    if kubeconfig.problem:
        settings.add_error(kubeconfig.problem)
    elif not context:
        settings.add_error(
            f"the kubeconfig has no current context (contexts: {known}):",
            "pulumi config set context CONTEXT",
            "pulumi config set target docker    # without a cluster",
        )
    elif context not in kubeconfig.servers:
        settings.add_error(
            f"context is {context!r}, and the kubeconfig has no such one (contexts: {known}):",
            "pulumi config set context CONTEXT",
        )
    kind = recognise(context, kubeconfig.servers.get(context, "")) if written == "auto" else BY_NAME[written]
    if kind.refusal:
        settings.add_error(f"context {context!r} is {kind.name}. {kind.refusal}")
    return Cluster(context, kind, nodes)


def _read_networks(settings: Settings) -> tuple[str, ...]:
    networks = []
    for written in settings.text("nodeNetworks").replace(",", " ").split():
        try:
            networks.append(str(ipaddress.ip_network(written)))
        except ValueError as error:
            settings.add_error(
                f"nodeNetworks has {written!r}, which is no network: {error}:",
                "pulumi config set nodeNetworks 192.0.2.0/24,198.51.100.7/32",
            )
    return tuple(networks)


def _read_namespace(settings: Settings) -> str:
    namespace = settings.text("namespace", _NAMESPACE, "memleak-demo")
    if namespace in _RESERVED_NAMESPACES:
        settings.add_error(
            f"namespace is {namespace!r}: the lab makes and deletes its namespace, so it must be one of its own:",
            "pulumi config set namespace memleak-demo",
        )
    return namespace


def _read_build(settings: Settings, environment: Environment | None, third_party: ThirdParty, machine: str) -> Build:
    chosen = settings.choice("platform", ("linux/amd64", "linux/arm64")) if settings.text("platform") else ""
    usual = environment.platform if environment else ""
    # Always said: without it Docker's provider warns at each update that the image may be for another processor.
    here = _PLATFORMS.get(machine.lower(), "")
    if not (chosen or usual or here):
        settings.add_error(
            f"this machine's processor is {machine!r}, and the image is built for linux/amd64 or linux/arm64:",
            "pulumi config set platform linux/amd64",
        )
    return Build(
        name=settings.text("imageName", REPOSITORY, "memleak-demo"),
        base=third_party.image(settings.text("baseImage", REFERENCE, "python:3.13-slim-trixie")),
        network=settings.text("buildNetwork", re.compile(r"[A-Za-z0-9][\w.:-]*"), "host"),
        platform=chosen or usual or here,
    )


def _read_leak(settings: Settings) -> Leak:
    speed = settings.number("speed", 0.1, 1000, "times real time")
    chunk = settings.integer("chunkKiB", 4, 1024, "KiB")
    cap = settings.integer("capMiB", 0, MOST_MIB, "MiB")
    if KIB % chunk:
        near = 1 << (chunk.bit_length() - 1)
        settings.add_error(
            f"chunkKiB is {chunk}: blocks must divide 1024 KiB, as powers of two do:",
            f"pulumi config set chunkKiB {near}",
        )
    least = cap + HEADROOM_MIB
    limit = settings.integer("memoryLimitMiB", 0, MOST_MIB + HEADROOM_MIB, "MiB")
    if 0 < limit < least:
        settings.add_error(
            f"memoryLimitMiB is {limit}, and with capMiB {cap} the kernel would kill the leaker before the leak ends:",
            f"pulumi config set memoryLimitMiB {least}",
            f"pulumi config set capMiB {max(0, limit - HEADROOM_MIB)}    # or a smaller leak",
        )
    return Leak(speed, chunk * KIB, cap * MIB, (limit or least) * MIB)


def _read_prometheus_url(settings: Settings, *, prometheus: bool, grafana: bool) -> str:
    url, set_url = settings.text("prometheusUrl"), "pulumi config set prometheusUrl http://HOST:9090"
    if url and not _is_address(url):
        # Grafana's configuration is a ConfigMap. What may be a login is not repeated.
        wrong = "has a login, which would be there for all to read" if "@" in url else f"is {url!r}"
        form = "it must have the form of http://HOST:PORT, with a port from 1 to 65535"
        settings.add_error(f"prometheusUrl {wrong}: {form}:", set_url)
        return ""
    if prometheus and url:
        settings.add_error(
            "prometheusUrl names a Prometheus while the lab declares its own:",
            "pulumi config set prometheus false",
            "pulumi config rm prometheusUrl    # or keep the lab's",
        )
    if grafana and not prometheus and not url:
        settings.add_error(
            "prometheus is false, and Grafana has nothing to ask:",
            set_url,
            "pulumi config set grafana false    # or leave Grafana out as well",
        )
    return url


def _is_address(url: str) -> bool:
    """Whether it is a URL of HTTP without a login, whose port is one if it has any."""
    try:
        parts = urlsplit(url)
        return bool(_URL.fullmatch(url) and parts.hostname and parts.port != 0 and "@" not in parts.netloc)
    except ValueError:
        return False


def _require_companions(settings: Settings, config: LabConfig) -> None:
    if config.replicas > 1 and not config.cluster:
        settings.add_error(
            f"replicas is {config.replicas} and target is docker: without a cluster there is one leaker:",
            "pulumi config rm replicas",
            "pulumi config set target kubernetes    # or a cluster",
        )
    if config.grafana_admin_password and not config.grafana:
        settings.add_error(
            "grafanaAdminPassword is set while grafana is false:", "pulumi config rm grafanaAdminPassword"
        )
