"""The lab: read the configuration, declare the parts, export what a learner types next."""

from __future__ import annotations

import os
from pathlib import Path

import pulumi
import pulumi_docker
import pulumi_kubernetes

from infra.config import LabConfig
from infra.docker_target import declare_as_containers
from infra.image import LabImage, LabImageArgs
from infra.kubeconfig import Kubeconfig
from infra.kubernetes_target import declare_in_cluster
from infra.outputs import docker_outputs, kubernetes_outputs
from infra.settings import Settings

config = LabConfig.read(Settings.of_stack(pulumi.get_project()), Kubeconfig.read(os.environ, Path.home()))
daemon = pulumi_docker.Provider("daemon")
with_docker = pulumi.ResourceOptions(provider=daemon)
image = LabImage("image", LabImageArgs(config.build, config.registry, root=Path(__file__).parent), with_docker)

if config.cluster:
    # ConfigMaps change in place, and the checksum in a pod's annotation rolls the pods that mount them. Another context
    # is another cluster: without an identifier the provider would be updated in place where KUBECONFIG is unset, and
    # the first cluster's objects forgotten.
    cluster = pulumi_kubernetes.Provider(
        "cluster",
        cluster_identifier=config.cluster.context,
        context=config.cluster.context,
        enable_config_map_mutable=True,
    )
    declare_in_cluster(config, config.cluster, image, pulumi.ResourceOptions(provider=cluster))
    outputs = kubernetes_outputs(config, config.cluster, image)
else:
    rendered = Path.cwd() / "build" / pulumi.get_stack()
    lab = declare_as_containers(config, image, rendered, with_docker)
    outputs = docker_outputs(config, image, lab.leaker)
outputs.export()
