"""What every pod of the lab has in common: labels, a security context, probes, a checksum of what it mounts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pulumi_kubernetes import apps, core, meta

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pulumi

    from infra.environments import Environment

PART_OF = "memleak-lab"
# What the images of Prometheus and Grafana can run as: the former's own user, which is nobody.
THIRD_PARTY_USER = 65534
SKIP_AWAIT = {"pulumi.com/skipAwait": "true"}


def labels(name: str, component: str) -> dict[str, str]:
    """Kubernetes' recommended labels for one part of the lab."""
    return {**selector(name), "app.kubernetes.io/part-of": PART_OF, "app.kubernetes.io/component": component}


def selector(name: str) -> dict[str, str]:
    """The label that finds the pods of one part, in the lab's namespace."""
    return {"app.kubernetes.io/name": name}


def checksum(texts: Mapping[str, str]) -> dict[str, str]:
    """A pod annotation that changes with the files a pod mounts, which rolls the pod.

    It is taken from the text and never from a resource's output: an output is unknown in a preview, and the preview
    would then announce a new pod each time.
    """
    digest = hashlib.sha256()
    for name in sorted(texts):
        digest.update(f"{name}\0{texts[name]}\0".encode())
    return {"memleak-lab/checksum": digest.hexdigest()[:16]}


def restricted_pod(environment: Environment, user: int = THIRD_PARTY_USER) -> core.v1.PodSecurityContextArgs:
    """A pod's security context that Pod Security's "restricted" profile admits."""
    number = None if environment.assigns_users else user
    return core.v1.PodSecurityContextArgs(
        run_as_non_root=True,
        run_as_user=number,
        run_as_group=number,
        fs_group=number,
        seccomp_profile=core.v1.SeccompProfileArgs(type="RuntimeDefault"),
    )


def restricted_container() -> core.v1.SecurityContextArgs:
    """A container's security context that Pod Security's "restricted" profile admits, with a read-only root."""
    return core.v1.SecurityContextArgs(
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
        capabilities=core.v1.CapabilitiesArgs(drop=["ALL"]),
    )


def http_probe(
    path: str, port: str, *, period_seconds: int = 10, failures: int = 3, timeout_seconds: int = 2
) -> core.v1.ProbeArgs:
    """A probe of a named port."""
    return core.v1.ProbeArgs(
        http_get=core.v1.HTTPGetActionArgs(path=path, port=port),
        period_seconds=period_seconds,
        failure_threshold=failures,
        timeout_seconds=timeout_seconds,
    )


def resources(*, cpu: str, memory: str, memory_limit: str) -> core.v1.ResourceRequirementsArgs:
    """Requests, and a limit on memory only: a limit on CPU would add latency that has nothing to do with the story."""
    return core.v1.ResourceRequirementsArgs(requests={"cpu": cpu, "memory": memory}, limits={"memory": memory_limit})


def environment_variables(values: Mapping[str, pulumi.Input[str]]) -> list[core.v1.EnvVarArgs]:
    """Plain variables, in a fixed order."""
    return [core.v1.EnvVarArgs(name=name, value=value) for name, value in sorted(values.items())]


def node_selector(platform: str) -> dict[str, str]:
    """Nodes that can run the image: Linux, and of the platform that it was built for, where one was chosen."""
    architecture = platform.partition("/")[2]
    return {"kubernetes.io/os": "linux", **({"kubernetes.io/arch": architecture} if architecture else {})}


# The old pod ends before the new one begins: for parts that nobody waits for.
ONE_AT_A_TIME = apps.v1.DeploymentStrategyArgs(type="Recreate")
# The new pod is ready before the old one ends: for a part that others call. Meanwhile the node holds both.
WITHOUT_A_GAP = apps.v1.DeploymentStrategyArgs(
    type="RollingUpdate", rolling_update=apps.v1.RollingUpdateDeploymentArgs(max_unavailable=0, max_surge=1)
)


def deployment_spec(
    selected: Mapping[str, str],
    labelled: Mapping[str, str],
    pod: core.v1.PodSpecArgs,
    annotations: Mapping[str, str] | None = None,
    *,
    replicas: int = 1,
    strategy: apps.v1.DeploymentStrategyArgs = ONE_AT_A_TIME,
) -> apps.v1.DeploymentSpecArgs:
    """Pods with the labels ``labelled``, of which ``selected`` are this Deployment's alone."""
    return apps.v1.DeploymentSpecArgs(
        replicas=replicas,
        strategy=strategy,
        selector=meta.v1.LabelSelectorArgs(match_labels=selected),
        template=core.v1.PodTemplateSpecArgs(
            metadata=meta.v1.ObjectMetaArgs(labels=labelled, annotations=annotations), spec=pod
        ),
    )


def service_spec(name: str, ports: Sequence[tuple[str, int]], *, headless: bool = False) -> core.v1.ServiceSpecArgs:
    """A Service in front of a part's pods, on the container ports of the same names and numbers."""
    return core.v1.ServiceSpecArgs(
        type="ClusterIP",
        cluster_ip="None" if headless else None,
        selector=selector(name),
        ports=[core.v1.ServicePortArgs(name=port, port=number, target_port=port) for port, number in ports],
    )


def metadata(
    name: str,
    namespace: pulumi.Input[str],
    labelled: Mapping[str, str],
    annotations: Mapping[str, str] | None = None,
) -> meta.v1.ObjectMetaArgs:
    """An object's name, place, labels and annotations."""
    return meta.v1.ObjectMetaArgs(name=name, namespace=namespace, labels=labelled, annotations=annotations or None)
