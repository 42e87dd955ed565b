"""Prometheus: a Deployment that may read the lab's pods, the kubelets' metrics, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi
from pulumi_kubernetes import apps, core, meta, networking, rbac

from infra import flows, pods
from infra.prometheus_config import (
    CONFIG_FILE,
    GADGET_METRICS_PORT,
    KUBELET_PORT,
    kubernetes_jobs,
    prometheus_files,
)
from infra.service_env import METRICS_PORT

if TYPE_CHECKING:
    from infra.environments import Environment
    from infra.monitoring import Monitoring
    from infra.namespace import NamespaceScope

NAME = "prometheus"
PORT = 9090
# A lab's afternoon, and never more than the volume holds with its log before the data.
RETENTION = ("--storage.tsdb.retention.time=12h", "--storage.tsdb.retention.size=256MB")
VOLUME_LIMIT = "1Gi"
CONFIG_FOLDER = "/etc/prometheus"
DATA_FOLDER = "/prometheus"


def arguments() -> list[str]:
    """Prometheus' command line, in a pod and in a container."""
    return [
        f"--config.file={CONFIG_FOLDER}/{CONFIG_FILE}",
        f"--storage.tsdb.path={DATA_FOLDER}",
        *RETENTION,
        f"--web.listen-address=:{PORT}",
    ]


@dataclass(frozen=True)
class PrometheusArgs:
    """``namespace`` is the name of ``scope``. ``gadget`` is Inspektor Gadget's place, where that is declared.

    ``nodes`` are the networks of the nodes and the API server, in CIDR notation; empty: not known.
    """

    scope: NamespaceScope
    namespace: str
    environment: Environment
    image: str
    gadget: NamespaceScope | None
    gadget_namespace: str
    nodes: tuple[str, ...]
    monitoring: Monitoring


class Prometheus(pulumi.ComponentResource):
    """Prometheus and what it may read.

    Attributes:
        url: how pods of the namespace reach it. Plain text: Grafana's configuration, and its checksum, hold it.
    """

    url: str

    def __init__(self, name: str, args: PrometheusArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("memleak-lab:infra:Prometheus", name, None, opts)
        scope, labels = args.scope, pods.labels(NAME, "monitoring")
        jobs = kubernetes_jobs(args.namespace, args.gadget_namespace if args.gadget else None)
        files = prometheus_files(jobs, args.monitoring)
        config = core.v1.ConfigMap(
            NAME, metadata=pods.metadata(NAME, scope.name, labels), data=files, opts=scope.options(self)
        )
        account = core.v1.ServiceAccount(
            NAME,
            metadata=pods.metadata(NAME, scope.name, labels),
            automount_service_account_token=False,
            opts=scope.options(self),
        )
        permissions = self._permissions(args, account, labels)
        policy = networking.v1.NetworkPolicy(
            NAME,
            metadata=pods.metadata(NAME, scope.name, labels),
            spec=flows.policy_spec(
                NAME,
                incoming=[flows.Flow([flows.pods("grafana")], flows.ports(PORT))],
                outgoing=_outgoing(args),
                names=args.environment,
            ),
            opts=scope.options(self),
        )
        apps.v1.Deployment(
            NAME,
            metadata=pods.metadata(NAME, scope.name, labels),
            spec=pods.deployment_spec(
                pods.selector(NAME),
                labels,
                _pod(args, config.metadata.name, account.metadata.name),
                pods.checksum(files),
            ),
            opts=scope.options(self, policy, *permissions),
        )
        core.v1.Service(
            NAME,
            metadata=pods.metadata(NAME, scope.name, labels),
            spec=pods.service_spec(NAME, [("http", PORT)]),
            opts=scope.options(self),
        )
        self.url = f"http://{NAME}:{PORT}"
        self.register_outputs({"url": self.url})

    def _permissions(
        self, args: PrometheusArgs, account: core.v1.ServiceAccount, labels: dict[str, str]
    ) -> list[pulumi.Resource]:
        """Pods of the lab's namespaces, nodes, and the kubelets' metrics.

        The kubelets are read directly, with nodes/metrics, as metrics-server does it. The API server's node proxy would
        need nodes/proxy, which is every one of the kubelet's endpoints, and with them a command in any pod.
        """
        subject = rbac.v1.SubjectArgs(kind="ServiceAccount", name=account.metadata.name, namespace=args.scope.name)
        cluster_name = f"{args.namespace}-{NAME}"
        nodes = rbac.v1.ClusterRole(
            "prometheus-nodes",
            metadata=meta.v1.ObjectMetaArgs(name=cluster_name, labels=labels),
            rules=[
                rbac.v1.PolicyRuleArgs(api_groups=[""], resources=["nodes"], verbs=["get", "list", "watch"]),
                rbac.v1.PolicyRuleArgs(api_groups=[""], resources=["nodes/metrics"], verbs=["get"]),
            ],
            opts=pulumi.ResourceOptions(parent=self),
        )
        permissions: list[pulumi.Resource] = [
            rbac.v1.ClusterRoleBinding(
                "prometheus-nodes",
                metadata=meta.v1.ObjectMetaArgs(name=cluster_name, labels=labels),
                role_ref=_role("ClusterRole", nodes.metadata.name),
                subjects=[subject],
                opts=pulumi.ResourceOptions(parent=self),
            )
        ]
        for place, label in ((args.scope, "lab"), (args.gadget, "gadget")):
            if place is None:
                continue
            role = rbac.v1.Role(
                f"prometheus-{label}",
                metadata=pods.metadata(NAME, place.name, labels),
                rules=[rbac.v1.PolicyRuleArgs(api_groups=[""], resources=["pods"], verbs=["get", "list", "watch"])],
                opts=place.options(self),
            )
            permissions.append(
                rbac.v1.RoleBinding(
                    f"prometheus-{label}",
                    metadata=pods.metadata(NAME, place.name, labels),
                    role_ref=_role("Role", role.metadata.name),
                    subjects=[subject],
                    opts=place.options(self),
                )
            )
        return permissions


def _role(kind: str, name: pulumi.Input[str]) -> rbac.v1.RoleRefArgs:
    return rbac.v1.RoleRefArgs(api_group="rbac.authorization.k8s.io", kind=kind, name=name)


def _outgoing(args: PrometheusArgs) -> list[flows.Flow]:
    to = [
        flows.Flow([flows.pods("leaker")], flows.ports(METRICS_PORT)),
        # Kubelets and the API server are on the nodes' network, where no selector finds them.
        flows.Flow(flows.nodes(args.nodes), flows.ports(KUBELET_PORT, *flows.API_SERVER_PORTS)),
    ]
    if args.gadget:
        to.append(flows.Flow([flows.namespace(args.gadget_namespace)], flows.ports(GADGET_METRICS_PORT)))
    return to


def _pod(args: PrometheusArgs, config: pulumi.Input[str], account: pulumi.Input[str]) -> core.v1.PodSpecArgs:
    container = core.v1.ContainerArgs(
        name=NAME,
        image=args.image,
        args=arguments(),
        ports=[core.v1.ContainerPortArgs(name="http", container_port=PORT)],
        resources=pods.resources(cpu="50m", memory="256Mi", memory_limit="512Mi"),
        startup_probe=pods.http_probe("/-/ready", "http", period_seconds=2, failures=60),
        liveness_probe=pods.http_probe("/-/healthy", "http"),
        readiness_probe=pods.http_probe("/-/ready", "http", period_seconds=5),
        security_context=pods.restricted_container(),
        volume_mounts=[
            core.v1.VolumeMountArgs(name="config", mount_path=CONFIG_FOLDER, read_only=True),
            core.v1.VolumeMountArgs(name="data", mount_path=DATA_FOLDER),
        ],
    )
    return core.v1.PodSpecArgs(
        containers=[container],
        service_account_name=account,
        automount_service_account_token=True,
        enable_service_links=False,
        security_context=pods.restricted_pod(args.environment),
        node_selector=pods.node_selector(""),
        volumes=[
            core.v1.VolumeArgs(name="config", config_map=core.v1.ConfigMapVolumeSourceArgs(name=config)),
            core.v1.VolumeArgs(name="data", empty_dir=core.v1.EmptyDirVolumeSourceArgs(size_limit=VOLUME_LIMIT)),
        ],
    )
