"""What Prometheus reads at start: whom it scrapes, as typed records that render to its YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import yaml

from infra.pods import selector
from infra.service_env import METRICS_PORT, TRACER_PORT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.monitoring import Monitoring

CONFIG_FILE = "prometheus.yml"
KUBELET_PORT = 10250
GADGET_METRICS_PORT = 2224

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
# The series that the dashboards read; a kubelet has a thousand times as many.
_CADVISOR_SERIES = (
    "container_memory_working_set_bytes",
    "container_memory_rss",
    "container_spec_memory_limit_bytes",
    "container_start_time_seconds",
    "container_oom_events_total",
)


@dataclass(frozen=True)
class Relabel:
    """One relabelling step, in Prometheus' own words."""

    action: str = "replace"
    source_labels: Sequence[str] = ()
    regex: str = "(.*)"
    target_label: str = ""
    replacement: str = "$1"

    def document(self) -> dict[str, object]:
        """The step as Prometheus reads it."""
        step: dict[str, object] = {
            "action": self.action,
            "source_labels": list(self.source_labels),
            "regex": self.regex,
        }
        if self.action == "replace":
            step |= {"target_label": self.target_label, "replacement": self.replacement}
        return step


@dataclass(frozen=True)
class ScrapeJob:
    """Where targets are found, how they are read, and what is kept of them.

    ``relabel`` is applied to targets, ``keep`` to their series. ``kubelet``: the targets are kubelets, which are read
    by HTTPS as the pod's service account.
    """

    name: str
    discovery: Mapping[str, object]
    path: str = "/metrics"
    kubelet: bool = False
    relabel: Sequence[Relabel] = field(default=())
    keep: Sequence[Relabel] = field(default=())

    def document(self) -> dict[str, object]:
        """The job as Prometheus reads it."""
        job: dict[str, object] = {"job_name": self.name, "metrics_path": self.path, **self.discovery}
        if self.kubelet:
            job |= {
                "scheme": "https",
                # cAdvisor stamps its samples itself, and Prometheus would go on for five minutes with the last one of
                # a container that is gone: a pod's figure would be that of the container that was killed.
                "track_timestamps_staleness": True,
                "authorization": {"credentials_file": f"{_ACCOUNT}/token"},
                # Many a cluster's kubelets serve a certificate that they signed themselves. The token that they get
                # to see reads kubelet metrics and nothing else.
                "tls_config": {"ca_file": f"{_ACCOUNT}/ca.crt", "insecure_skip_verify": True},
            }
        if self.relabel:
            job["relabel_configs"] = [step.document() for step in self.relabel]
        if self.keep:
            job["metric_relabel_configs"] = [step.document() for step in self.keep]
        return job


def kubernetes_jobs(namespace: str, gadget_namespace: str | None) -> list[ScrapeJob]:
    """The claims of the leaker's pods, the kubelets' view of the namespace, and what Inspektor Gadget counts."""
    of_the_lab = Relabel("keep", ["namespace"], namespace)
    jobs = [
        ScrapeJob(
            "leaker",
            _pods(namespace, selector("leaker")),
            relabel=[Relabel("keep", ["__meta_kubernetes_pod_container_port_number"], str(METRICS_PORT)), *_POD_LABELS],
        ),
        ScrapeJob(
            "cadvisor",
            _NODES,
            "/metrics/cadvisor",
            kubelet=True,
            relabel=[_NODE_LABEL],
            keep=[of_the_lab, Relabel("keep", ["__name__"], "|".join(_CADVISOR_SERIES))],
        ),
        ScrapeJob("probes", _NODES, "/metrics/probes", kubelet=True, relabel=[_NODE_LABEL], keep=[of_the_lab]),
    ]
    if gadget_namespace:
        address = Relabel(
            "replace", ["__meta_kubernetes_pod_ip"], target_label="__address__", replacement=f"$1:{GADGET_METRICS_PORT}"
        )
        node = Relabel("replace", ["__meta_kubernetes_pod_node_name"], target_label="node")
        # Its series come under the names that the rules know (grafana/vocabulary.py), and name the pod themselves.
        pods = _pods(gadget_namespace, {"k8s-app": "gadget"})
        jobs.append(ScrapeJob("gadget", pods, relabel=[address, node]))
    return jobs


def docker_jobs(leaker: str, tracer_host: str | None) -> list[ScrapeJob]:
    """The claims of the leaker's container; and what the kernel knows, from a tracer on the host."""
    jobs = [ScrapeJob("leaker", {"static_configs": [{"targets": [f"{leaker}:{METRICS_PORT}"]}]})]
    if tracer_host:
        jobs.append(ScrapeJob("tracer", {"static_configs": [{"targets": [f"{tracer_host}:{TRACER_PORT}"]}]}))
    return jobs


def prometheus_files(jobs: Sequence[ScrapeJob], monitoring: Monitoring) -> dict[str, str]:
    """The files of Prometheus' configuration folder, by name."""
    interval = monitoring.pace.scrape_interval
    document = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval},
        "rule_files": sorted(monitoring.rules),
        "scrape_configs": [job.document() for job in jobs],
    }
    return {CONFIG_FILE: yaml.safe_dump(document, sort_keys=False), **monitoring.rules}


_NODES: Mapping[str, object] = {"kubernetes_sd_configs": [{"role": "node"}]}
_NODE_LABEL = Relabel("replace", ["__meta_kubernetes_node_name"], target_label="node")
_POD_LABELS = tuple(
    Relabel("replace", [f"__meta_kubernetes_{source}"], target_label=target)
    for source, target in (("namespace", "namespace"), ("pod_name", "pod"), ("pod_node_name", "node"))
)


def _pods(namespace: str, labelled: Mapping[str, str]) -> Mapping[str, object]:
    label = ",".join(f"{name}={value}" for name, value in labelled.items())
    return {
        "kubernetes_sd_configs": [
            {
                "role": "pod",
                "namespaces": {"names": [namespace]},
                "selectors": [{"role": "pod", "label": label}],
            }
        ]
    }
