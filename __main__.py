"""The lab: read the configuration, declare the parts in their order, export what a learner types next."""

from __future__ import annotations

import os
from pathlib import Path

import pulumi
import pulumi_kubernetes as kubernetes

from infra.config import LabConfig
from infra.image import LabImage, LabImageArgs
from infra.kubeconfig import Kubeconfig
from infra.leaker import Leaker, LeakerArgs
from infra.namespace import LabNamespace, LabNamespaceArgs
from infra.settings import Settings
from infra.visitors import Visitors, VisitorsArgs

config = LabConfig.read(Settings.of_stack(pulumi.get_project()), Kubeconfig.read(os.environ, Path.home()))
image = LabImage("image", LabImageArgs(config.build, config.registry, Path(__file__).parent))
if config.cluster:
    environment = config.cluster.environment
    provider = kubernetes.Provider("cluster", context=config.cluster.context, enable_config_map_mutable=True)
    here = pulumi.ResourceOptions(provider=provider)
    space = LabNamespace("namespace", LabNamespaceArgs(config.namespace, config.registry), here)
    leaker = Leaker(
        "leaker",
        LeakerArgs(space.inside, image, environment, config.build.platform, config.leak, not config.prometheus),
        here,
    )
    Visitors("visitors", VisitorsArgs(space.inside, image, environment, config.build.platform, leaker.host), here)
