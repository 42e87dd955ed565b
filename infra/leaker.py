"""The leaker: a Deployment that no probe, limit or fence disturbs while it leaks, its peers, and two Services."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pulumi
from pulumi_kubernetes import apps, core, networking

from infra import flows, pods
from infra.config import MIB
from infra.service_env import HTTP_PORT, METRICS_PORT, SERVICE_USER, leaker_variables

if TYPE_CHECKING:
    from infra.config import Leak
    from infra.environments import Environment
    from infra.image import LabImage
    from infra.namespace import NamespaceScope

NAME = "leaker"
HEADLESS = "leaker-headless"
PEERS = "leaker-peers"
# A pod's address leaves the nodes' tables some time after the pod was told to stop: it serves on until then.
LINGER_SECONDS = 5
STOP_SECONDS = 5
# What a service that keeps nothing uses, and room.
PEER_REQUEST_MIB = 128
_PORTS = (("http", HTTP_PORT), ("metrics", METRICS_PORT))


@dataclass(frozen=True)
class LeakerArgs:
    """``replicas`` are all pods behind the Service, of which one leaks.

    ``scraped_from_outside``: a Prometheus of another namespace reads the metrics.
    """

    scope: NamespaceScope
    image: LabImage
    environment: Environment
    platform: str
    leak: Leak
    replicas: int
    scraped_from_outside: bool


class Leaker(pulumi.ComponentResource):
    """The service, of whose pods one leaks.

    Attributes:
        host: the name that its ClusterIP Service answers to within the namespace.
    """

    host: pulumi.Output[str]

    def __init__(self, name: str, args: LeakerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("memleak-lab:infra:Leaker", name, None, opts)
        scope, labels = args.scope, pods.labels(NAME, "service")
        # Nodes that must be given the image by hand come up after `up` has printed how.
        await_annotations = pods.SKIP_AWAIT if args.image.pull_policy == "Never" else {}
        policy = networking.v1.NetworkPolicy(
            NAME,
            metadata=pods.metadata(NAME, scope.name, labels),
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
            opts=scope.options(self),
        )
        sound = replace(args.leak, cap_bytes=0)
        request = args.leak.memory_limit_bytes // MIB
        parts = [(NAME, args.leak, request, 1), (PEERS, sound, min(request, PEER_REQUEST_MIB), args.replicas - 1)]
        for part, leak, request_mib, replicas in parts:
            if not replicas:
                continue
            own = {**pods.selector(NAME), "app.kubernetes.io/instance": part}
            apps.v1.Deployment(
                part,
                metadata=pods.metadata(part, scope.name, {**labels, **own}, await_annotations),
                spec=pods.deployment_spec(
                    own,
                    {**labels, **own},
                    _pod(args, leak, request_mib),
                    _SCRAPE,
                    replicas=replicas,
                    strategy=pods.WITHOUT_A_GAP,
                ),
                opts=pulumi.ResourceOptions.merge(
                    scope.options(self, policy),
                    pulumi.ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create="5m", update="5m")),
                ),
            )
        service = core.v1.Service(
            NAME,
            metadata=pods.metadata(NAME, scope.name, labels, await_annotations),
            spec=pods.service_spec(NAME, _PORTS),
            opts=scope.options(self),
        )
        core.v1.Service(
            HEADLESS,
            metadata=pods.metadata(HEADLESS, scope.name, labels, await_annotations),
            spec=pods.service_spec(NAME, _PORTS, headless=True),
            opts=scope.options(self),
        )
        self.host = service.metadata.name
        self.register_outputs({"host": self.host})


# The words by which many a cluster's own Prometheus finds its targets.
_SCRAPE = {"prometheus.io/scrape": "true", "prometheus.io/port": str(METRICS_PORT), "prometheus.io/path": "/metrics"}


def _pod(args: LeakerArgs, leak: Leak, request_mib: int) -> core.v1.PodSpecArgs:
    limit = f"{leak.memory_limit_bytes // MIB}Mi"
    container = core.v1.ContainerArgs(
        name=NAME,
        image=args.image.reference,
        image_pull_policy=args.image.pull_policy,
        env=pods.environment_variables(leaker_variables(leak)),
        ports=[core.v1.ContainerPortArgs(name=name, container_port=port) for name, port in _PORTS],
        # The one that leaks requests all of its limit: a pod that uses more than its request is the first that a full
        # node evicts.
        resources=pods.resources(cpu="100m", memory=f"{request_mib}Mi", memory_limit=limit),
        startup_probe=pods.http_probe("/health", "http", period_seconds=1, failures=60),
        liveness_probe=pods.http_probe("/health", "http"),
        readiness_probe=pods.http_probe("/ready", "http", period_seconds=5),
        lifecycle=core.v1.LifecycleArgs(
            pre_stop=core.v1.LifecycleHandlerArgs(
                exec_=core.v1.ExecActionArgs(command=["sleep", str(LINGER_SECONDS)]),
            )
        ),
        security_context=pods.restricted_container(),
    )
    return core.v1.PodSpecArgs(
        containers=[container],
        security_context=pods.restricted_pod(args.environment, SERVICE_USER),
        node_selector=pods.node_selector(args.platform),
        image_pull_secrets=list(args.scope.pull_secrets) or None,
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=LINGER_SECONDS + STOP_SECONDS,
    )
