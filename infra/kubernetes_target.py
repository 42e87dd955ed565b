"""The lab in a cluster: its parts in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra import gadget, versions
from infra.config import GadgetKind
from infra.gadget import InspektorGadget, InspektorGadgetArgs
from infra.grafana import Dashboards, DashboardsArgs, Grafana, GrafanaArgs
from infra.leaker import Leaker, LeakerArgs
from infra.monitoring import monitoring
from infra.namespace import LabNamespace, LabNamespaceArgs
from infra.prometheus import Prometheus, PrometheusArgs
from infra.references import insecure
from infra.visitors import Visitors, VisitorsArgs

if TYPE_CHECKING:
    import pulumi

    from infra.config import Cluster, LabConfig
    from infra.image import LabImage


def declare_in_cluster(config: LabConfig, cluster: Cluster, image: LabImage, there: pulumi.ResourceOptions) -> None:
    """Declare every part that the configuration asks for; ``there`` names the cluster's provider."""
    environment, platform = cluster.environment, config.build.platform
    kubectl = (environment.client, "--context", cluster.context)
    inside = LabNamespace("namespace", LabNamespaceArgs(config.namespace, config.registry, kubectl), there).inside
    leaker = Leaker(
        "leaker",
        LeakerArgs(
            inside,
            image,
            environment,
            platform,
            config.leak,
            config.replicas,
            scraped_from_outside=not config.prometheus,
        ),
        there,
    )
    Visitors("visitors", VisitorsArgs(inside, image, environment, platform, leaker.host), there)
    gadgets = _declare_gadget(config, there)
    shown, prometheus_url = monitoring(config), config.prometheus_url
    if config.prometheus:
        prometheus_url = Prometheus(
            "prometheus",
            PrometheusArgs(
                inside,
                config.namespace,
                environment,
                config.image(versions.PROMETHEUS_IMAGE),
                gadgets.inside if gadgets else None,
                gadget.NAMESPACE,
                shown,
            ),
            there,
        ).url
    boards = Dashboards("dashboards", DashboardsArgs(inside, shown.dashboards), there)
    if config.grafana:
        Grafana(
            "grafana",
            GrafanaArgs(
                inside,
                environment,
                config.image(versions.GRAFANA_IMAGE),
                prometheus_url,
                config.prometheus,
                boards,
                shown.pace,
                config.grafana_admin_password,
            ),
            there,
        )


def _declare_gadget(config: LabConfig, there: pulumi.ResourceOptions) -> InspektorGadget | None:
    if config.gadget.kind is GadgetKind.NONE:
        return None
    own = config.gadget.kind is GadgetKind.MEMLEAK
    return InspektorGadget(
        "inspektor-gadget",
        InspektorGadgetArgs(
            config.gadget,
            config.image(versions.GADGET_IMAGE),
            config.image(gadget.OFFICIAL_GADGETS),
            config.namespace,
            insecure(config.gadget.image) if own else "",
        ),
        there,
    )
