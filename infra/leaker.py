"""The leaker: a Deployment that no probe, limit or fence disturbs while it leaks, and its two Services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi
from pulumi_kubernetes import apps, core, networking

from infra import flows, pods
from infra.story import HTTP_PORT, METRICS_PORT, leaker_variables

if TYPE_CHECKING:
    from infra.config import Leak
    from infra.environments import Environment
    from infra.image import LabImage
    from infra.namespace import Inside

NAME = "leaker"
HEADLESS = "leaker-headless"
_PORTS = (("http", HTTP_PORT), ("metrics", METRICS_PORT))


@dataclass(frozen=True)
class LeakerArgs:
    """``scraped_from_outside``: a Prometheus of another namespace reads the metrics."""

    inside: Inside
    image: LabImage
    environment: Environment
    platform: str
    leak: Leak
    scraped_from_outside: bool


class Leaker(pulumi.ComponentResource):
    """The service that leaks.

    Attributes:
        host: the name that its ClusterIP Service answers to within the namespace.
    """

    host: pulumi.Output[str]

    def __init__(self, name: str, args: LeakerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("memleak-lab:infra:Leaker", name, None, opts)
        inside, labels = args.inside, pods.labels(NAME, "service")
        # Nodes that must be given the image by hand come up after `up` has printed how.
        patience = pods.SKIP_AWAIT if args.image.pull_policy == "Never" else {}
        policy = networking.v1.NetworkPolicy(
            NAME,
            metadata=pods.metadata(NAME, inside.name, labels),
            spec=flows.policy_spec(
                NAME,
                incoming=[
                    flows.Flow([flows.pods("visitors")], flows.ports(HTTP_PORT)),
                    flows.Flow(
                        [flows.any_namespace() if args.scraped_from_outside else flows.pods("prometheus")],
                        flows.ports(METRICS_PORT),
                    ),
                ],
            ),
            opts=inside.options(self),
        )
        apps.v1.Deployment(
            NAME,
            metadata=pods.metadata(NAME, inside.name, labels, patience),
            spec=pods.deployment_spec(NAME, labels, _pod(args), _SCRAPE),
            opts=pulumi.ResourceOptions.merge(
                inside.options(self, policy),
                pulumi.ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create="5m", update="5m")),
            ),
        )
        service = core.v1.Service(
            NAME,
            metadata=pods.metadata(NAME, inside.name, labels, patience),
            spec=pods.service_spec(NAME, _PORTS),
            opts=inside.options(self),
        )
        core.v1.Service(
            HEADLESS,
            metadata=pods.metadata(HEADLESS, inside.name, labels, patience),
            spec=pods.service_spec(NAME, _PORTS, headless=True),
            opts=inside.options(self),
        )
        self.host = service.metadata.name
        self.register_outputs({"host": self.host})


# The words by which many a cluster's own Prometheus finds its targets.
_SCRAPE = {"prometheus.io/scrape": "true", "prometheus.io/port": str(METRICS_PORT), "prometheus.io/path": "/metrics"}


def _pod(args: LeakerArgs) -> core.v1.PodSpecArgs:
    limit = f"{args.leak.memory_limit_bytes // 2**20}Mi"
    container = core.v1.ContainerArgs(
        name=NAME,
        image=args.image.reference,
        image_pull_policy=args.image.pull_policy,
        env=pods.environment_variables(leaker_variables(args.leak)),
        ports=[core.v1.ContainerPortArgs(name=name, container_port=port) for name, port in _PORTS],
        # All of the limit is requested: a pod that uses more than its request is the first that a full node evicts.
        resources=pods.resources(cpu="100m", memory=limit, memory_limit=limit),
        startup_probe=pods.http_probe("/health", "http", period_seconds=1, failures=60),
        liveness_probe=pods.http_probe("/health", "http"),
        readiness_probe=pods.http_probe("/ready", "http", period_seconds=5),
        security_context=pods.restricted_container(),
    )
    return core.v1.PodSpecArgs(
        containers=[container],
        security_context=pods.restricted_pod(args.environment),
        node_selector=pods.node_selector(args.platform),
        image_pull_secrets=list(args.inside.pull_secrets) or None,
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=10,
    )
