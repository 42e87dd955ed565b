"""Grafana: provisioned from files, open to look at, with nobody to log in unless a password was configured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pulumi
from pulumi_kubernetes import apps, core, meta, networking

from grafana import provisioning
from infra import flows, pods

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grafana import Pace
    from infra.environments import Environment
    from infra.namespace import NamespaceScope
    from infra.settings import Secret

NAME = "grafana"
PORT = 3000
DASHBOARDS_FOLDER = "/var/lib/grafana-dashboards"
PROVISIONING_FOLDER = "/etc/grafana/provisioning"
DATA_FOLDER = "/var/lib/grafana"
ADMIN = "admin"
# The label by which the field's dashboard sidecars find dashboards.
SIDECAR_LABEL = {"grafana_dashboard": "1"}


def variables(*, with_admin: bool) -> dict[str, str]:
    """Grafana's settings: anyone may look, and nobody asks the internet for updates, plugins or news."""
    return {
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_AUTH_DISABLE_LOGIN_FORM": str(not with_admin).lower(),
        "GF_AUTH_BASIC_ENABLED": str(with_admin).lower(),
        "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": str(not with_admin).lower(),
        "GF_USERS_ALLOW_SIGN_UP": "false",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_NEWS_NEWS_FEED_ENABLED": "false",
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
        "GF_PATHS_DATA": DATA_FOLDER,
        "GF_PATHS_PROVISIONING": PROVISIONING_FOLDER,
        "GF_LOG_MODE": "console",
    }


@dataclass(frozen=True)
class DashboardsArgs:
    """``texts`` are the dashboards' files, by name."""

    scope: NamespaceScope
    texts: Mapping[str, str]


class Dashboards(pulumi.ComponentResource):
    """The dashboards as a labelled ConfigMap, for this lab's Grafana or for one that the cluster has.

    Attributes:
        config_map: the ConfigMap's name.
        texts: the dashboards' files, by name.
    """

    config_map: pulumi.Output[str]
    texts: Mapping[str, str]

    def __init__(self, name: str, args: DashboardsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("memleak-lab:infra:Dashboards", name, None, opts)
        config_map = core.v1.ConfigMap(
            "dashboards",
            metadata=pods.metadata("dashboards", args.scope.name, {**pods.labels(NAME, "monitoring"), **SIDECAR_LABEL}),
            data=args.texts,
            opts=args.scope.options(self),
        )
        self.config_map = config_map.metadata.name
        self.texts = args.texts
        self.register_outputs({"config_map": self.config_map})


@dataclass(frozen=True)
class GrafanaArgs:
    """``prometheus_url`` is what Grafana asks; ``in_namespace``: it is the lab's own."""

    scope: NamespaceScope
    environment: Environment
    image: str
    prometheus_url: str
    in_namespace: bool
    dashboards: Dashboards
    pace: Pace
    admin_password: Secret | None


class Grafana(pulumi.ComponentResource):
    """Grafana, with one data source and the lab's dashboards."""

    def __init__(self, name: str, args: GrafanaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("memleak-lab:infra:Grafana", name, None, opts)
        scope, labels = args.scope, pods.labels(NAME, "monitoring")
        files = provisioning(args.prometheus_url, DASHBOARDS_FOLDER, speed=args.pace.speed)
        config = core.v1.ConfigMap(
            NAME,
            metadata=pods.metadata(NAME, scope.name, labels),
            # A ConfigMap's keys have no folders: the volume puts each file where it belongs.
            data={_key(path): text for path, text in files.items()},
            opts=scope.options(self),
        )
        secret = self._admin(args, labels)
        policy = networking.v1.NetworkPolicy(
            NAME,
            metadata=pods.metadata(NAME, scope.name, labels),
            spec=flows.policy_spec(NAME, outgoing=[_to_prometheus(args)], names=args.environment),
            opts=scope.options(self),
        )
        apps.v1.Deployment(
            NAME,
            metadata=pods.metadata(NAME, scope.name, labels),
            spec=pods.deployment_spec(
                pods.selector(NAME),
                labels,
                _pod(args, config.metadata.name, sorted(files), secret),
                pods.checksum({**files, **args.dashboards.texts}),
            ),
            opts=scope.options(self, policy),
        )
        core.v1.Service(
            NAME,
            metadata=pods.metadata(NAME, scope.name, labels),
            spec=pods.service_spec(NAME, [("http", PORT)]),
            opts=scope.options(self),
        )
        self.register_outputs({})

    def _admin(self, args: GrafanaArgs, labels: dict[str, str]) -> pulumi.Output[str] | None:
        """The Secret with the admin's password, by name.

        It has no fixed name: a new password makes a new Secret, whose name rolls the pod, and no checksum of a
        password stands in an annotation for all to read.
        """
        if args.admin_password is None:
            return None
        secret = core.v1.Secret(
            "grafana-admin",
            metadata=meta.v1.ObjectMetaArgs(namespace=args.scope.name, labels=labels),
            string_data={"password": args.admin_password.output()},
            opts=args.scope.options(self),
        )
        return secret.metadata.name


def _key(path: str) -> str:
    return path.replace("/", "-")


def _to_prometheus(args: GrafanaArgs) -> flows.Flow:
    url = urlsplit(args.prometheus_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    if args.in_namespace:
        return flows.Flow([flows.pods("prometheus")], flows.ports(port))
    return flows.Flow([flows.any_namespace(), *flows.everywhere()], flows.ports(port))


def _pod(
    args: GrafanaArgs, config: pulumi.Input[str], paths: list[str], secret: pulumi.Input[str] | None
) -> core.v1.PodSpecArgs:
    environment = pods.environment_variables(variables(with_admin=secret is not None))
    if secret is not None:
        environment += [
            core.v1.EnvVarArgs(name="GF_SECURITY_ADMIN_USER", value=ADMIN),
            core.v1.EnvVarArgs(
                name="GF_SECURITY_ADMIN_PASSWORD",
                value_from=core.v1.EnvVarSourceArgs(
                    secret_key_ref=core.v1.SecretKeySelectorArgs(name=secret, key="password")
                ),
            ),
        ]
    container = core.v1.ContainerArgs(
        name=NAME,
        image=args.image,
        env=environment,
        ports=[core.v1.ContainerPortArgs(name="http", container_port=PORT)],
        resources=pods.resources(cpu="50m", memory="256Mi", memory_limit="512Mi"),
        startup_probe=pods.http_probe("/api/health", "http", period_seconds=2, failures=60),
        liveness_probe=pods.http_probe("/api/health", "http"),
        readiness_probe=pods.http_probe("/api/health", "http", period_seconds=5),
        security_context=pods.restricted_container(),
        volume_mounts=[
            core.v1.VolumeMountArgs(name="provisioning", mount_path=PROVISIONING_FOLDER, read_only=True),
            core.v1.VolumeMountArgs(name="dashboards", mount_path=DASHBOARDS_FOLDER, read_only=True),
            core.v1.VolumeMountArgs(name="data", mount_path=DATA_FOLDER),
            core.v1.VolumeMountArgs(name="tmp", mount_path="/tmp"),  # noqa: S108 - Grafana's own
        ],
    )
    files = [core.v1.KeyToPathArgs(key=_key(path), path=path) for path in paths]
    return core.v1.PodSpecArgs(
        containers=[container],
        automount_service_account_token=False,
        enable_service_links=False,
        security_context=pods.restricted_pod(args.environment),
        node_selector=pods.node_selector(""),
        volumes=[
            core.v1.VolumeArgs(
                name="provisioning", config_map=core.v1.ConfigMapVolumeSourceArgs(name=config, items=files)
            ),
            core.v1.VolumeArgs(
                name="dashboards", config_map=core.v1.ConfigMapVolumeSourceArgs(name=args.dashboards.config_map)
            ),
            core.v1.VolumeArgs(name="data", empty_dir=core.v1.EmptyDirVolumeSourceArgs(size_limit="512Mi")),
            core.v1.VolumeArgs(name="tmp", empty_dir=core.v1.EmptyDirVolumeSourceArgs(size_limit="64Mi")),
        ],
    )
