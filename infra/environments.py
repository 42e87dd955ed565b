"""One frozen record per kind of cluster: how an image arrives, what its pods may be, and whether eBPF runs there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Environment:
    """What differs from one kind of cluster to the next. Everything else is the same declaration.

    ``context`` and ``server`` recognise the kind: expressions on the kubeconfig context's name and on its server's
    address. ``image_import`` is the command that copies an image from the Docker daemon into the nodes, with
    ``{image}`` and ``{name}`` (the context's name as ``name_of`` strips it); empty text: the nodes share the daemon;
    None: there is no such way. ``pull_registry`` and ``pod_registry`` are the names of the registry that ``local``
    pushes to, as nodes and as pods know it; empty: the push name. ``platform`` is the nodes' usual one; empty: that
    of the machine that builds. ``assigns_users``: the cluster chooses the pods' uids. ``refusal`` says why eBPF
    cannot run there at all.
    """

    name: str
    context: str = ""
    server: str = ""
    image_import: str | None = None
    name_of: str = "(.*)"
    pull_registry: str = ""
    pod_registry: str = ""
    shares_this_machine: bool = False
    platform: str = ""
    assigns_users: bool = False
    dns_namespace: str = "kube-system"
    dns_ports: tuple[int, ...] = (53,)
    client: str = "kubectl"
    refusal: str = ""

    def recognises(self, context: str, server: str) -> bool:
        """Whether a kubeconfig context with this name and server address is of this kind."""
        return bool(
            (self.context and re.search(self.context, context)) or (self.server and re.search(self.server, server))
        )

    def import_command(self, image: str, context: str) -> str:
        """The command that brings ``image`` from the Docker daemon to the nodes; empty where none is needed."""
        found = re.fullmatch(self.name_of, context)
        return (self.image_import or "").format(image=image, name=found.group(1) if found else context)


# Recognised in this order: a refused kind before the kind that it is a variety of.
ENVIRONMENTS: Final[tuple[Environment, ...]] = (
    Environment(
        name="kind",
        context=r"^kind-",
        image_import="kind load docker-image {image} --name {name}",
        name_of="kind-(.*)",
        pod_registry="kind-registry:5000",
        shares_this_machine=True,
    ),
    Environment(
        name="minikube",
        context=r"^minikube$",
        image_import="minikube image load {image} --profile {name}",
        # The registry addon's proxy listens on every node under this name.
        pull_registry="localhost:5000",
        pod_registry="registry.kube-system.svc.cluster.local",
        shares_this_machine=True,
    ),
    Environment(
        name="docker-desktop",
        context=r"^docker-(desktop|for-desktop)$",
        image_import="",
        pod_registry="host.docker.internal:5001",
        shares_this_machine=True,
    ),
    Environment(
        name="gke-autopilot",
        # What Google's console and gcloud propose as the name; the kubeconfig holds no better sign.
        context=r"^gke_.*autopilot",
        refusal=(
            "GKE Autopilot lets no pod load eBPF programs or mount the node's files: use a Standard cluster. "
            "If this one is Standard in spite of its name: pulumi config set environment gke"
        ),
    ),
    Environment(
        name="eks-fargate",
        context=r"fargate",
        refusal=(
            "Fargate runs no DaemonSet and lets no pod load eBPF programs: use a cluster with EC2 node groups. "
            "If this one has them in spite of its name: pulumi config set environment eks"
        ),
    ),
    Environment(name="aks", server=r"\.azmk8s\.io(:\d+)?$", platform="linux/amd64"),
    Environment(
        name="eks",
        context=r"^arn:aws[a-z-]*:eks:|\.eksctl\.io$",
        server=r"\.eks\.amazonaws\.com(\.cn)?$",
        platform="linux/amd64",
    ),
    Environment(name="gke", context=r"^gke_", platform="linux/amd64"),
    Environment(
        name="openshift",
        # `oc login` writes NAMESPACE/API-SERVER:PORT/USER; CRC writes its own names.
        context=r"^[^/]*/api[-.][^/]*:6443/|^crc-",
        server=r"//api\.[^/]*:6443$",
        platform="linux/amd64",
        # The restricted SCC refuses any uid outside the range that it gives to the namespace.
        assigns_users=True,
        dns_namespace="openshift-dns",
        dns_ports=(53, 5353),
        client="oc",
    ),
    Environment(
        name="generic", image_import="docker save {image} | ssh NODE sudo ctr --namespace k8s.io images import -"
    ),
)

BY_NAME: Final = {environment.name: environment for environment in ENVIRONMENTS}
CHOICES: Final = ("auto", *(environment.name for environment in ENVIRONMENTS if not environment.refusal))


def recognise(context: str, server: str) -> Environment:
    """The kind of the cluster behind a kubeconfig context; generic where nothing is recognised."""
    return next((kind for kind in ENVIRONMENTS if kind.recognises(context, server)), BY_NAME["generic"])
