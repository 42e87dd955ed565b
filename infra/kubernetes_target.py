"""The lab in a cluster: its parts in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra import gadget, versions
from infra.gadget import InspektorGadget, InspektorGadgetArgs
from infra.gadgets import GadgetKind
from infra.grafana import Dashboards, DashboardsArgs, Grafana, GrafanaArgs
from infra.leaker import Leaker, LeakerArgs
from infra.monitoring import monitoring
from infra.namespace import LabNamespace, LabNamespaceArgs, docker_config
from infra.prometheus import Prometheus, PrometheusArgs
from infra.references import insecure, split_host
from infra.visitors import Visitors, VisitorsArgs

if TYPE_CHECKING:
    import pulumi

    from infra.config import Cluster, LabConfig
    from infra.image import LabImage


def declare_in_cluster(
    config: LabConfig, cluster: Cluster, image: LabImage, provider_options: pulumi.ResourceOptions
) -> None:
    """Declare every part that the configuration asks for; ``provider_options`` name the cluster's provider."""
    environment, platform = cluster.environment, config.build.platform
    kubectl = (environment.client, "--context", cluster.context)
    arguments = LabNamespaceArgs(config.namespace, config.registry, kubectl)
    scope = LabNamespace("namespace", arguments, provider_options).scope
    leaker = Leaker(
        "leaker",
        LeakerArgs(
            scope,
            image,
            environment,
            platform,
            config.leak,
            config.replicas,
            scraped_from_outside=not config.prometheus,
        ),
        provider_options,
    )
    Visitors("visitors", VisitorsArgs(scope, image, environment, platform, leaker.host), provider_options)
    gadgets = _declare_gadget(config, cluster, provider_options)
    shown, prometheus_url = monitoring(config), config.prometheus_url
    if config.prometheus:
        prometheus_url = Prometheus(
            "prometheus",
            PrometheusArgs(
                scope,
                config.namespace,
                environment,
                config.image(versions.PROMETHEUS_IMAGE),
                gadgets.scope if gadgets else None,
                gadget.NAMESPACE,
                cluster.nodes,
                shown,
            ),
            provider_options,
        ).url
    boards = Dashboards("dashboards", DashboardsArgs(scope, shown.dashboards), provider_options)
    if config.grafana:
        Grafana(
            "grafana",
            GrafanaArgs(
                scope,
                environment,
                config.image(versions.GRAFANA_IMAGE),
                prometheus_url,
                config.prometheus,
                boards,
                shown.pace,
                config.grafana_admin_password,
            ),
            provider_options,
        )


def _declare_gadget(
    config: LabConfig, cluster: Cluster, provider_options: pulumi.ResourceOptions
) -> InspektorGadget | None:
    if config.gadget.kind is GadgetKind.NONE:
        return None
    own = config.gadget.kind is GadgetKind.MEMLEAK
    return InspektorGadget(
        "inspektor-gadget",
        InspektorGadgetArgs(
            config.gadget,
            config.image(versions.GADGET_IMAGE),
            config.namespace,
            # This project's registry, or the mirror that the stock gadget comes from.
            insecure(config.gadget.image),
            cluster.environment,
            cluster.nodes,
            scraped_from_outside=not config.prometheus,
            login=_gadget_login(config) if own else None,
        ),
        provider_options,
    )


def _gadget_login(config: LabConfig) -> pulumi.Output[str] | None:
    """What Inspektor Gadget's daemon, which pulls by itself, logs in with: the registry's login, and there only."""
    registry, place = config.registry, split_host(config.gadget.image)[0]
    known = {name.partition("/")[0] for name in (registry.push, registry.pull, registry.pods)}
    if registry.password is None or place not in known:
        return None
    return docker_config(place, registry.username, registry.password)
