"""The leaker's image: built by Docker, pushed where the stack says, tagged by its content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi
import pulumi_docker as docker

from infra import presence
from infra.context import content_tag
from infra.references import insecure
from infra.registries import RegistryKind

if TYPE_CHECKING:
    from pathlib import Path

    from infra.config import Build
    from infra.registries import Registry

DOCKERFILE = "service/Dockerfile"


@dataclass(frozen=True)
class LabImageArgs:
    """``root`` is the project's folder, which is also the working directory of the program."""

    build: Build
    registry: Registry
    root: Path


class LabImage(pulumi.ComponentResource):
    """The image, and the names by which others know it.

    Attributes:
        local: its name in the Docker daemon, with the tag.
        reference: what a node pulls: by digest where it was pushed, by its unique tag where it was not.
        pull_policy: Kubernetes' word for how.
    """

    local: pulumi.Output[str]
    reference: pulumi.Output[str]
    pull_policy: str

    def __init__(self, name: str, args: LabImageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("memleak-lab:infra:LabImage", name, None, opts)
        build, registry = args.build, args.registry
        tag = content_tag(args.root, build.base, build.platform)
        repository = f"{registry.push}/{build.name}" if registry.pushes else build.name
        image = docker.Image(
            name,
            image_name=f"{repository}:{tag}",
            skip_push=not registry.pushes,
            # Relative, so that the state is the same on every machine: Pulumi runs the program in its folder.
            build=docker.DockerBuildArgs(
                context=".",
                dockerfile=DOCKERFILE,
                platform=build.platform,
                network=build.network or None,
                args={"BASE_IMAGE": build.base, "CONTENT": tag},
            ),
            registry=_login(registry),
            opts=pulumi.ResourceOptions(parent=self),
        )
        if registry.pushes:
            self.local = image.image_name
            self.reference = _pushed(image, registry, f"{registry.pull}/{build.name}")
            self.pull_policy = "IfNotPresent"
        else:
            # Never: a node that lacks the image says so at once, and asks no public registry for this name.
            self.local = self.reference = _kept(image)
            self.pull_policy = "Never"
        self.register_outputs({"local": self.local, "reference": self.reference})


def _pushed(image: docker.Image, registry: Registry, pulled: str) -> pulumi.Output[str]:
    """The image by digest, once it is sure that a registry of this machine still has it."""

    async def reference(values: list[str]) -> str:
        name, pushed, urn = values
        digest = pushed.rpartition("@")[2]
        if registry.kind is RegistryKind.LOCAL and insecure(registry.push):
            await presence.keep_pushed(presence.Pushed(name, digest, urn), preview=pulumi.runtime.is_dry_run())
        return f"{pulled}@{digest}"

    return pulumi.Output.all(image.image_name, image.repo_digest, image.urn).apply(reference)


def _kept(image: docker.Image) -> pulumi.Output[str]:
    """The image by its tag, once it is sure that Docker still has it."""

    async def reference(values: list[str]) -> str:
        # The digest is known of an image that was built, and in a preview of none that will be.
        name, _, urn = values
        await presence.require_in_daemon(name, urn)
        return name

    return pulumi.Output.all(image.image_name, image.repo_digest, image.urn).apply(reference)


def _login(registry: Registry) -> docker.RegistryArgs | None:
    if not registry.pushes:
        return None
    return docker.RegistryArgs(
        server=registry.push.partition("/")[0],
        username=registry.username if registry.password else None,
        password=registry.password.output() if registry.password else None,
    )
