"""What the stack exports: names, and the commands that a learner types next."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import pulumi

from infra import commands, grafana, prometheus, versions
from infra.docker_target import PROMETHEUS_HOST_PORT
from infra.gadgets import GadgetKind
from infra.service_env import HTTP_PORT, LEDGER_PORT, METRICS_PORT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.config import Cluster, LabConfig
    from infra.image import LabImage

GRAFANA_PAGE = "d/memleak-lab-health"
ABOUT = {
    "image": "the leaker's image, as nodes pull it or as Docker has it",
    "namespace": "where everything but Inspektor Gadget is; on plain Docker, what the containers' names begin with",
    "gadget_command": "runs the gadget on the leaking pod or container, with the symbols of its shared object",
    "gadget_install_command": "puts `kubectl gadget`, or `ig` on plain Docker, on the PATH",
    "bpftrace_command": (
        "thirty seconds of bpftrace on the leaker, from a pod or container on its machine; `kubectl debug` leaves the "
        "finished pod `node-debugger-...` in the context's namespace: delete it"
    ),
    "bcc_command": "the same with BCC's memleak",
    "port_forward_commands": "by part: brings its port to this machine; empty on plain Docker, which publishes them",
    "urls": "by part: where it answers, once its port is forwarded",
    "learn_command": "the learner's tasks on this stack's leaker, from the machine that runs it",
    "verify_command": "compares an answer (`ANSWER=FUNCTION`, or `report.json`) with the leaker's ledger",
    "import_command": (
        "only with registry `none`: copies the image into the cluster's nodes; with environment `generic`, NODE stands "
        "for the name of each node"
    ),
    "tracer_command": "only on plain Docker with `truth`: feeds *What the kernel knows*",
}


@dataclass(frozen=True)
class LabOutputs:
    """The stack's outputs, under these names. ``import_command`` and ``tracer_command`` are None where not needed."""

    image: pulumi.Input[str]
    namespace: str
    gadget_command: str
    gadget_install_command: str
    bpftrace_command: str
    bcc_command: str
    port_forward_commands: Mapping[str, str]
    urls: Mapping[str, str]
    learn_command: str
    verify_command: str
    import_command: pulumi.Input[str] | None
    tracer_command: str | None = None

    def export(self) -> None:
        """Hand every output that there is to Pulumi."""
        for output in fields(self):
            value = getattr(self, output.name)
            if value is not None:
                pulumi.export(output.name, value)


def kubernetes_outputs(config: LabConfig, cluster: Cluster, image: LabImage) -> LabOutputs:
    """The commands for the lab in a cluster."""
    environment = cluster.environment
    kubectl = commands.Kubectl(environment.client, cluster.context, config.namespace)
    toolbox = config.image(versions.TOOLBOX_IMAGE)
    declared = config.gadget.kind is not GadgetKind.NONE
    # The Deployment, for behind the Service are its peers as well.
    leaking = (("leaker", HTTP_PORT), ("metrics", METRICS_PORT), ("ledger", LEDGER_PORT))
    forwards = {name: kubectl.forward("deployment/leaker", port, port) for name, port in leaking}
    if config.prometheus:
        forwards["prometheus"] = kubectl.forward("service/prometheus", PROMETHEUS_HOST_PORT, prometheus.PORT)
    if config.grafana:
        forwards["grafana"] = kubectl.forward("service/grafana", grafana.PORT, grafana.PORT)
    install = commands.install_kubectl_gadget()
    return LabOutputs(
        image=image.reference,
        namespace=config.namespace,
        gadget_command=kubectl.gadget(
            config.gadget.image or config.image(versions.TRACE_MALLOC_IMAGE),
            symbols=config.gadget.kind is not GadgetKind.MEMLEAK,
        ),
        gadget_install_command=install if declared else f"{install} && {kubectl.client} gadget deploy",
        bpftrace_command=kubectl.on_node(commands.bpftrace_script(), toolbox),
        bcc_command=kubectl.on_node(commands.bcc_script(host="/host"), toolbox),
        port_forward_commands=forwards,
        urls=_urls(config, ledger=True),
        learn_command=kubectl.learn(),
        verify_command=kubectl.verify(),
        import_command=_import_command(config, cluster, image),
    )


def docker_outputs(config: LabConfig, image: LabImage, container: str) -> LabOutputs:
    """The commands for the lab as containers."""
    toolbox = config.image(versions.TOOLBOX_IMAGE)
    return LabOutputs(
        image=image.local,
        namespace=config.namespace,
        gadget_command=commands.docker_gadget(config.image(versions.TRACE_MALLOC_IMAGE), container),
        gadget_install_command=commands.install_ig(),
        bpftrace_command=commands.docker_on_host(commands.bpftrace_script(), toolbox, container),
        bcc_command=commands.docker_on_host(commands.bcc_script(host=""), toolbox, container),
        port_forward_commands={},
        urls=_urls(config, ledger=False),
        learn_command=commands.docker_learn(container),
        verify_command=commands.docker_verify(container),
        import_command=None,
        tracer_command=commands.docker_tracer(container) if config.truth else None,
    )


def _import_command(config: LabConfig, cluster: Cluster, image: LabImage) -> pulumi.Output[str] | None:
    if config.registry.pushes or not cluster.environment.image_import:
        return None
    return image.local.apply(lambda name: cluster.environment.import_command(name, cluster.context))


def _urls(config: LabConfig, *, ledger: bool) -> dict[str, str]:
    """Where the parts answer, once their ports are forwarded (Docker's are published already)."""
    urls = {
        "leaker": f"http://127.0.0.1:{HTTP_PORT}/health",
        "metrics": f"http://127.0.0.1:{METRICS_PORT}/metrics",
    }
    if ledger:
        urls["ledger"] = f"http://127.0.0.1:{LEDGER_PORT}/ledger"
    if config.prometheus:
        urls["prometheus"] = f"http://127.0.0.1:{PROMETHEUS_HOST_PORT}"
    if config.grafana:
        urls["grafana"] = f"http://127.0.0.1:{grafana.PORT}/{GRAFANA_PAGE}"
    return urls
