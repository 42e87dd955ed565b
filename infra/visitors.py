"""The visitors: a small steady load on the leaker, so that the dashboards live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi
from pulumi_kubernetes import apps, core, networking

from infra import flows, pods
from infra.service_env import HTTP_PORT, SERVICE_USER, VISITORS_COMMAND, visitors_variables

if TYPE_CHECKING:
    from infra.environments import Environment
    from infra.image import LabImage
    from infra.namespace import NamespaceScope

NAME = "visitors"


@dataclass(frozen=True)
class VisitorsArgs:
    """``host`` is the leaker's Service."""

    scope: NamespaceScope
    image: LabImage
    environment: Environment
    platform: str
    host: pulumi.Input[str]


class Visitors(pulumi.ComponentResource):
    """The visitors' Deployment, which may reach the leaker and nothing else."""

    def __init__(self, name: str, args: VisitorsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("memleak-lab:infra:Visitors", name, None, opts)
        scope, labels = args.scope, pods.labels(NAME, "load")
        await_annotations = pods.SKIP_AWAIT if args.image.pull_policy == "Never" else {}
        policy = networking.v1.NetworkPolicy(
            NAME,
            metadata=pods.metadata(NAME, scope.name, labels),
            spec=flows.policy_spec(
                NAME,
                outgoing=[flows.Flow([flows.pods("leaker")], flows.ports(HTTP_PORT))],
                names=args.environment,
            ),
            opts=scope.options(self),
        )
        apps.v1.Deployment(
            NAME,
            metadata=pods.metadata(NAME, scope.name, labels, await_annotations),
            spec=pods.deployment_spec(pods.selector(NAME), labels, _pod(args)),
            opts=scope.options(self, policy),
        )
        self.register_outputs({})


def _pod(args: VisitorsArgs) -> core.v1.PodSpecArgs:
    container = core.v1.ContainerArgs(
        name=NAME,
        image=args.image.reference,
        image_pull_policy=args.image.pull_policy,
        command=list(VISITORS_COMMAND),
        env=pods.environment_variables(visitors_variables(args.host)),
        resources=pods.resources(cpu="50m", memory="64Mi", memory_limit="128Mi"),
        security_context=pods.restricted_container(),
    )
    return core.v1.PodSpecArgs(
        containers=[container],
        security_context=pods.restricted_pod(args.environment, SERVICE_USER),
        node_selector=pods.node_selector(args.platform),
        image_pull_secrets=list(args.scope.pull_secrets) or None,
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=5,
    )
