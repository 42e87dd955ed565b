"""Inspektor Gadget: its chart in a namespace of its own, and the gadget that runs from the start."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi
from pulumi_kubernetes import core, helm, meta, networking

from infra import flows, versions
from infra.gadgets import GadgetKind
from infra.namespace import NamespaceScope, pod_security
from infra.pods import PART_OF
from infra.prometheus_config import GADGET_METRICS_PORT
from infra.references import split_host, split_tag

if TYPE_CHECKING:
    from infra.environments import Environment
    from infra.gadgets import Gadget

# The daemon finds its own ConfigMaps by this name: the chart's gadgetNamespace.
NAMESPACE = "gadget"
LOGIN_NAME = "memleak-registry"
HTTP, HTTPS, REGISTRY = 80, 443, 5000


@dataclass(frozen=True)
class InspektorGadgetArgs:
    """``daemon_image`` is the daemon's, as the public chart's version has it. A chart in a folder knows its own tag.

    ``watched`` is the lab's namespace. ``insecure_registry`` is a registry without TLS that the daemon may pull from;
    empty: there is none. ``nodes`` are the networks of the nodes and the API server; empty: not known.
    ``scraped_from_outside``: a Prometheus of another namespace than the lab's reads the metrics. ``login`` is what the
    daemon pulls its gadget with, as Docker keeps it; None: nothing.
    """

    gadget: Gadget
    daemon_image: str
    watched: str
    insecure_registry: str
    environment: Environment
    nodes: tuple[str, ...]
    scraped_from_outside: bool
    login: pulumi.Output[str] | None


class InspektorGadget(pulumi.ComponentResource):
    """Inspektor Gadget's daemon on every node, and one running gadget whose numbers Prometheus reads.

    Attributes:
        scope: its namespace.
    """

    scope: NamespaceScope

    def __init__(self, name: str, args: InspektorGadgetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("memleak-lab:infra:InspektorGadget", name, None, opts)
        space = core.v1.Namespace(
            "gadget-namespace",
            metadata=meta.v1.ObjectMetaArgs(name=NAMESPACE, labels=pod_security("privileged")),
            opts=pulumi.ResourceOptions(parent=self),
        )
        policy = networking.v1.NetworkPolicy(
            "gadget-policy",
            metadata=meta.v1.ObjectMetaArgs(
                name=NAMESPACE, namespace=space.metadata.name, labels={"app.kubernetes.io/part-of": PART_OF}
            ),
            spec=_policy(args),
            opts=pulumi.ResourceOptions(parent=self, deleted_with=space),
        )
        before: list[pulumi.Resource] = [policy]
        if args.login is not None:
            before.append(self._secret(space, args.login))
        chart = args.gadget.chart
        # Not deleted with the namespace: its cluster role would stay behind.
        release = helm.v3.Release(
            "gadget",
            name="gadget",
            namespace=space.metadata.name,
            chart=chart,
            version=versions.GADGET_VERSION if is_public(chart) else None,
            values=_values(args),
            atomic=True,
            timeout=300,
            opts=pulumi.ResourceOptions(parent=self, depends_on=before),
        )
        self.scope = NamespaceScope(space.metadata.name, space, release, ())
        parameters = _parameters(args)
        core.v1.ConfigMap(
            "gadget-instance",
            metadata=meta.v1.ObjectMetaArgs(
                name=_instance_id(args.gadget.image, parameters),
                namespace=space.metadata.name,
                labels={"type": "gadget-instance", "name": args.gadget.kind.value},
                annotations={
                    "gadgetImage": args.gadget.image,
                    "gadgetTags": "",
                    "gadgetTimeout": "0",
                    "gadgetLogLevel": "4",
                    "gadgetNodes": "",
                },
            ),
            data=parameters,
            immutable=True,
            opts=pulumi.ResourceOptions.merge(
                self.scope.options(self), pulumi.ResourceOptions(delete_before_replace=True)
            ),
        )
        self.register_outputs({"namespace": space.metadata.name})

    def _secret(self, space: core.v1.Namespace, login: pulumi.Output[str]) -> core.v1.Secret:
        """The login. The daemon reads it by name at each pull, so a changed password is no change to the chart."""
        return core.v1.Secret(
            "gadget-registry",
            metadata=meta.v1.ObjectMetaArgs(
                name=LOGIN_NAME, namespace=space.metadata.name, labels={"app.kubernetes.io/part-of": PART_OF}
            ),
            type="kubernetes.io/dockerconfigjson",
            string_data={".dockerconfigjson": login},
            opts=pulumi.ResourceOptions(parent=self, deleted_with=space, delete_before_replace=True),
        )


def _policy(args: InspektorGadgetArgs) -> networking.v1.NetworkPolicySpecArgs:
    """Only the metrics are reached, and only by Prometheus; clients come by the API server, which no policy stops.

    The daemon reaches the API server, names, and the registry that its gadget is pulled from, wherever that is.
    """
    metrics = flows.any_namespace() if args.scraped_from_outside else flows.pods_of(args.watched, "prometheus")
    return flows.policy_spec(
        None,
        incoming=[flows.Flow([metrics], flows.ports(GADGET_METRICS_PORT))],
        outgoing=[
            flows.Flow(flows.nodes(args.nodes), flows.ports(*flows.API_SERVER_PORTS)),
            flows.Flow(flows.everywhere(), flows.ports(*_registry_ports(args))),
        ],
        names=args.environment,
    )


def _registry_ports(args: InspektorGadgetArgs) -> tuple[int, ...]:
    port = split_host(args.gadget.image)[0].partition(":")[2]
    if not args.insecure_registry:
        return (int(port or HTTPS),)
    # Behind a Service's port it is the pod's own that a policy sees.
    return tuple(sorted({int(port or HTTP), REGISTRY}))


def is_public(chart: str) -> bool:
    """Whether the chart is fetched by its version; one in a folder has a version of its own."""
    return chart.startswith("oci://")


def _values(args: InspektorGadgetArgs) -> dict[str, object]:
    oci: dict[str, object] = {}
    if args.insecure_registry:
        oci["insecure-registries"] = [args.insecure_registry]
    if args.login is not None:
        oci["pull-secret"] = LOGIN_NAME
    if args.gadget.kind is GadgetKind.MEMLEAK:
        if args.gadget.public_key:
            oci["public-keys"] = [versions.GADGET_PUBLIC_KEY, args.gadget.public_key]
        else:
            # The daemon verifies either all gadgets or none. So where this project's is not signed, it alone may run,
            # under just this name: an asterisk would admit what is named alike.
            oci |= {"verify-image": False, "allowed-gadgets": [args.gadget.image]}
    repository, tag = split_tag(args.daemon_image)
    # Beside a digest the tag is repeated, for the chart puts a colon between repository and tag.
    named = {"tag": tag} if "@" in tag and is_public(args.gadget.chart) else {}
    return {
        "image": {"repository": repository, **named, "pullPolicy": "IfNotPresent"},
        "config": {
            "gadgetNamespace": NAMESPACE,
            "operator": {
                "oci": oci,
                "otel-metrics": {
                    "otel-metrics-listen": True,
                    "otel-metrics-listen-address": f"0.0.0.0:{GADGET_METRICS_PORT}",
                },
            },
        },
    }


def _instance_id(image: str, parameters: dict[str, str]) -> str:
    """The name that the daemon knows a running gadget by: 32 hexadecimal digits.

    It is made from what runs, because the daemon starts what appears and stops what vanishes, and overlooks changes.
    """
    content = "\0".join((image, *(f"{key}={value}" for key, value in sorted(parameters.items()))))
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _parameters(args: InspektorGadgetArgs) -> dict[str, str]:
    """The running gadget's parameters: whom it watches, and what it counts for Prometheus."""
    parameters = {
        "operator.KubeManager.namespace": args.watched,
        "operator.KubeManager.selector": "app.kubernetes.io/name=leaker",
        "operator.KubeManager.containername": "leaker",
    }
    if args.gadget.kind is GadgetKind.MEMLEAK:
        return {**parameters, "operator.otel-metrics.otel-metrics-name": "memleak:memleak"}
    # The stock gadget exports nothing of its own accord: bytes and calls, by operation.
    annotations = (
        "malloc:metrics.collect=true",
        "malloc:metrics.implicit-counter.name=calls",
        "malloc:metrics.implicit-counter.description=allocator calls",
        "malloc.operation:metrics.type=key",
        "malloc.size:metrics.type=counter",
    )
    return {
        **parameters,
        "operator.oci.annotate": ",".join(annotations),
        "operator.otel-metrics.otel-metrics-name": "malloc:trace_malloc",
    }
