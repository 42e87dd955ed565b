"""The lab without a cluster: its parts as containers on one network, with ports on this machine's loopback only."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pulumi
import pulumi_docker as docker

from grafana import provisioning
from infra import grafana, prometheus, versions
from infra.monitoring import monitoring
from infra.pods import PART_OF, THIRD_PARTY_USER, checksum
from infra.prometheus_config import docker_jobs, prometheus_files
from infra.references import with_digest
from infra.service_env import (
    HTTP_PORT,
    METRICS_PORT,
    SERVICE_USER,
    VISITORS_COMMAND,
    leaker_variables,
    visitors_variables,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from infra.config import LabConfig, Leak
    from infra.image import LabImage
    from infra.monitoring import Monitoring
    from infra.settings import Secret

LOOPBACK = "127.0.0.1"
PROMETHEUS_HOST_PORT = 9092
MIB = 2**20
# More than the longest health check takes to give up: Grafana's, at its first start. An interval begins when the check
# before it has ended.
WAIT_SECONDS = 200
# This machine, as a container calls it.
HOST = "host.docker.internal"
_ASK_HEALTH = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{HTTP_PORT}/health', timeout=2)"


@dataclass(frozen=True)
class DockerLabArgs:
    """``rendered`` is a folder of this machine for the files that containers mount.

    ``name`` begins every container's name. A part without an image is left out. ``prometheus_url`` is what Grafana asks
    where the lab has no Prometheus.
    """

    name: str
    image: LabImage
    leak: Leak
    prometheus_image: str | None
    prometheus_url: str
    grafana_image: str | None
    grafana_admin_password: Secret | None
    monitoring: Monitoring
    rendered: Path


@dataclass(frozen=True)
class _Part:
    """What sets one container apart from the others.

    ``files`` are mounted at their folder, by relative path. ``sees_host`` gives this machine a name inside.
    """

    name: str
    image: pulumi.Input[str]
    memory_bytes: int
    user: int = THIRD_PARTY_USER
    variables: Sequence[pulumi.Input[str]] = ()
    command: Sequence[str] = ()
    entrypoint: Sequence[str] = ()
    ports: Mapping[int, int] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    writable: Sequence[str] = ()
    healthcheck: docker.ContainerHealthcheckArgs | None = None
    after: Sequence[pulumi.Resource] = ()
    sees_host: bool = False


class DockerLab(pulumi.ComponentResource):
    """Leaker, visitors, Prometheus and Grafana as containers.

    Attributes:
        leaker: the leaker's container name.
    """

    leaker: str

    def __init__(self, name: str, args: DockerLabArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("memleak-lab:infra:DockerLab", name, None, opts)
        self._args = args
        self._network = docker.Network(
            "network",
            name=args.name,
            labels=[docker.NetworkLabelArgs(label="app.kubernetes.io/part-of", value=PART_OF)],
            opts=pulumi.ResourceOptions(parent=self),
        )
        leaker = self._run(_leaker(args))
        self._run(_visitors(args, leaker))
        if args.prometheus_image:
            self._run(_prometheus(args, self._pull("prometheus", args.prometheus_image)))
        if args.grafana_image:
            self._run(_grafana(args, self._pull("grafana", args.grafana_image)))
        self.leaker = f"{args.name}-leaker"
        self.register_outputs({"leaker": self.leaker})

    def _pull(self, name: str, image: str) -> pulumi.Output[str]:
        """The image by tag and digest. By its id alone nobody could pull it again once it was pruned."""
        pulled = docker.RemoteImage(name, name=image, keep_locally=True, opts=pulumi.ResourceOptions(parent=self))
        if "@" in image:
            return pulled.name
        # An image that was loaded and never pulled has no digest.
        return pulled.repo_digest.apply(lambda digest: with_digest(image, digest or ""))

    def _run(self, part: _Part) -> docker.Container:
        labels = {"app.kubernetes.io/name": part.name, "app.kubernetes.io/part-of": PART_OF}
        # Docker's provider takes changed mounts for an update, and leaves the container as it is. A changed label
        # replaces it.
        labels |= checksum(
            {f"{folder}/{path}": text for folder, files in part.files.items() for path, text in files.items()}
        )
        folders = {folder: render(files, self._args.rendered) for folder, files in sorted(part.files.items())}
        return docker.Container(
            part.name,
            name=f"{self._args.name}-{part.name}",
            image=part.image,
            command=list(part.command) or None,
            entrypoints=list(part.entrypoint) or None,
            envs=list(part.variables),
            labels=[docker.ContainerLabelArgs(label=label, value=value) for label, value in sorted(labels.items())],
            networks_advanced=[docker.ContainerNetworksAdvancedArgs(name=self._network.name, aliases=[part.name])],
            hosts=[docker.ContainerHostArgs(host=HOST, ip="host-gateway")] if part.sees_host else [],
            ports=[
                docker.ContainerPortArgs(internal=inside, external=outside, ip=LOOPBACK)
                for inside, outside in sorted(part.ports.items())
            ],
            mounts=[
                docker.ContainerMountArgs(type="bind", target=target, source=str(source), read_only=True)
                for target, source in folders.items()
            ],
            tmpfs=dict.fromkeys(part.writable, f"rw,noexec,nosuid,nodev,size=512m,uid={part.user},gid={part.user}"),
            user=f"{part.user}:{part.user}",
            read_only=True,
            capabilities=docker.ContainerCapabilitiesArgs(drops=["ALL"]),
            security_opts=["no-new-privileges:true"],
            # Without the second figure Docker adds as much swap again, and reports it as a change.
            memory=part.memory_bytes // MIB,
            memory_swap=part.memory_bytes // MIB,
            restart="unless-stopped",
            healthcheck=part.healthcheck,
            wait=part.healthcheck is not None,
            wait_timeout=WAIT_SECONDS,
            destroy_grace_seconds=10,
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(part.after), delete_before_replace=True),
        )


def declare_as_containers(
    config: LabConfig, image: LabImage, rendered: Path, opts: pulumi.ResourceOptions
) -> DockerLab:
    """Declare every part that the configuration asks for."""
    return DockerLab(
        "docker",
        DockerLabArgs(
            name=config.namespace,
            image=image,
            leak=config.leak,
            prometheus_image=config.image(versions.PROMETHEUS_IMAGE) if config.prometheus else None,
            prometheus_url=config.prometheus_url,
            grafana_image=config.image(versions.GRAFANA_IMAGE) if config.grafana else None,
            grafana_admin_password=config.grafana_admin_password,
            monitoring=monitoring(config),
            rendered=rendered,
        ),
        opts,
    )


def render(files: Mapping[str, str], root: Path) -> Path:
    """Write the files to a folder under ``root`` that is named by their content, and never changed again.

    A running container goes on with the files it was started with, also through a preview of other ones. They are
    readable to the container's user whatever this user's umask is.
    """
    (digest,) = checksum(files).values()
    folder = root / digest
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            # Whole or not at all: what is there is taken for whole ever after.
            new = file.with_name(f"{file.name}.{os.getpid()}.new")
            new.write_text(text, encoding="utf-8")
            new.replace(file)
        file.chmod(0o644)
    for directory in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        directory.chmod(0o755)
    return folder


def _healthcheck(*command: str, interval: str, retries: int) -> docker.ContainerHealthcheckArgs:
    # Every field is said: Docker's own choice for one that is not would be read back as a change.
    return docker.ContainerHealthcheckArgs(
        tests=["CMD", *command], interval=interval, timeout="3s", start_period="5s", retries=retries
    )


def _leaker(args: DockerLabArgs) -> _Part:
    return _Part(
        "leaker",
        args.image.local,
        args.leak.memory_limit_bytes,
        SERVICE_USER,
        variables=[f"{name}={value}" for name, value in sorted(leaker_variables(args.leak).items())],
        ports={HTTP_PORT: HTTP_PORT, METRICS_PORT: METRICS_PORT},
        healthcheck=_healthcheck("python", "-c", _ASK_HEALTH, interval="10s", retries=3),
    )


def _visitors(args: DockerLabArgs, leaker: docker.Container) -> _Part:
    return _Part(
        "visitors",
        args.image.local,
        128 * MIB,
        SERVICE_USER,
        variables=[
            pulumi.Output.format("{0}={1}", name, value) for name, value in sorted(visitors_variables("leaker").items())
        ],
        entrypoint=VISITORS_COMMAND,
        after=[leaker],
    )


def _prometheus(args: DockerLabArgs, image: pulumi.Input[str]) -> _Part:
    return _Part(
        prometheus.NAME,
        image,
        # The data are in memory: half of this is theirs.
        1024 * MIB,
        command=prometheus.arguments(),
        ports={prometheus.PORT: PROMETHEUS_HOST_PORT},
        files={
            prometheus.CONFIG_FOLDER: prometheus_files(
                docker_jobs("leaker", HOST if args.monitoring.truth else None), args.monitoring
            )
        },
        writable=[prometheus.DATA_FOLDER],
        sees_host=args.monitoring.truth,
        healthcheck=_healthcheck(
            "/bin/promtool", "check", "ready", f"--url=http://127.0.0.1:{prometheus.PORT}", interval="5s", retries=12
        ),
    )


def _grafana(args: DockerLabArgs, image: pulumi.Input[str]) -> _Part:
    password = args.grafana_admin_password
    url = args.prometheus_url or f"http://{prometheus.NAME}:{prometheus.PORT}"
    values: list[pulumi.Input[str]] = [
        f"{name}={value}" for name, value in sorted(grafana.variables(with_admin=password is not None).items())
    ]
    if password:
        values += [
            f"GF_SECURITY_ADMIN_USER={grafana.ADMIN}",
            pulumi.Output.concat("GF_SECURITY_ADMIN_PASSWORD=", password.output()),
        ]
    return _Part(
        grafana.NAME,
        image,
        1024 * MIB,
        variables=values,
        ports={grafana.PORT: grafana.PORT},
        files={
            grafana.PROVISIONING_FOLDER: provisioning(url, grafana.DASHBOARDS_FOLDER, speed=args.monitoring.pace.speed),
            grafana.DASHBOARDS_FOLDER: args.monitoring.dashboards,
        },
        writable=[grafana.DATA_FOLDER, "/tmp"],  # noqa: S108 - the container's own
        # A Prometheus of one's own may well run on this machine.
        sees_host=bool(args.prometheus_url),
        healthcheck=_healthcheck(
            *("wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{grafana.PORT}/api/health"),
            interval="5s",
            retries=24,
        ),
    )
