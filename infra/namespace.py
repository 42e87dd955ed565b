"""The lab's namespace: its Pod Security, its closed network, and what its pods pull with."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi
from pulumi_kubernetes import core, meta, networking

from infra import presence
from infra.flows import deny_all_spec
from infra.pods import PART_OF

if TYPE_CHECKING:
    from infra.registries import Registry
    from infra.settings import Secret


def pod_security(profile: str) -> dict[str, str]:
    """The labels by which Kubernetes enforces a Pod Security profile, and OpenShift leaves it alone."""
    return {
        "app.kubernetes.io/part-of": PART_OF,
        **{f"pod-security.kubernetes.io/{mode}": profile for mode in ("enforce", "audit", "warn")},
        "security.openshift.io/scc.podSecurityLabelSync": "false",
    }


@dataclass(frozen=True)
class LabNamespaceArgs:
    """``registry`` decides whether the nodes need a Secret to pull with. ``kubectl`` is the client with its context."""

    name: str
    registry: Registry
    kubectl: tuple[str, ...]


@dataclass(frozen=True)
class NamespaceScope:
    """A place in the namespace, for the parts that go there.

    ``name`` is an output of the namespace, so whoever names it comes after it.
    """

    name: pulumi.Output[str]
    resource: core.v1.Namespace
    closed: pulumi.Resource
    pull_secrets: tuple[core.v1.LocalObjectReferenceArgs, ...]

    def options(self, parent: pulumi.Resource, *after: pulumi.Resource) -> pulumi.ResourceOptions:
        """For an object in the namespace: it goes with the namespace, so `destroy` need not delete it by itself."""
        return pulumi.ResourceOptions(parent=parent, deleted_with=self.resource, depends_on=[self.closed, *after])


class LabNamespace(pulumi.ComponentResource):
    """The namespace, with Pod Security "restricted" enforced and no traffic but what the parts' policies allow.

    Attributes:
        scope: where the parts go.
    """

    scope: NamespaceScope

    def __init__(self, name: str, args: LabNamespaceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("memleak-lab:infra:LabNamespace", name, None, opts)
        space = core.v1.Namespace(
            name,
            metadata=meta.v1.ObjectMetaArgs(name=args.name, labels=pod_security("restricted")),
            opts=pulumi.ResourceOptions(parent=self),
        )

        async def check(metadata: meta.v1.outputs.ObjectMeta) -> str:
            # In a preview a namespace that will be made has a uid as well: that of the API server's dry run.
            if metadata.uid and not pulumi.runtime.is_dry_run():
                await presence.require_same_cluster(args.kubectl, args.name, metadata.uid)
            return args.name

        checked: pulumi.Output[str] = space.metadata.apply(check)
        namespace_name = space.metadata.name
        scope = pulumi.ResourceOptions(parent=self, deleted_with=space)
        closed = networking.v1.NetworkPolicy(
            "deny-all",
            metadata=meta.v1.ObjectMetaArgs(
                name="deny-all", namespace=namespace_name, labels={"app.kubernetes.io/part-of": PART_OF}
            ),
            spec=deny_all_spec(),
            opts=scope,
        )
        pull_secrets: tuple[core.v1.LocalObjectReferenceArgs, ...] = ()
        if args.registry.password:
            login = docker_config(args.registry.pull, args.registry.username, args.registry.password)
            # It has no fixed name: a changed login makes a new Secret before the old one goes.
            secret = core.v1.Secret(
                "pull-secret",
                metadata=meta.v1.ObjectMetaArgs(
                    namespace=namespace_name, labels={"app.kubernetes.io/part-of": PART_OF}
                ),
                type="kubernetes.io/dockerconfigjson",
                string_data={".dockerconfigjson": login},
                opts=scope,
            )
            pull_secrets = (core.v1.LocalObjectReferenceArgs(name=secret.metadata.name),)
        self.scope = NamespaceScope(namespace_name, space, closed, pull_secrets)
        self.register_outputs({"name": checked})


def docker_config(place: str, username: str, password: Secret) -> pulumi.Output[str]:
    """A login as Docker keeps it, for a Secret of type kubernetes.io/dockerconfigjson.

    ``place`` is ``host[:port][/path]``, by the name that whoever pulls knows the registry by.
    """
    host = place.partition("/")[0]
    # Docker Hub's login is kept under its old address.
    server = "https://index.docker.io/v1/" if host == "docker.io" else host

    def document(plain: str) -> str:
        auth = base64.b64encode(f"{username}:{plain}".encode()).decode()
        return json.dumps({"auths": {server: {"username": username, "password": plain, "auth": auth}}})

    return password.output().apply(document)
