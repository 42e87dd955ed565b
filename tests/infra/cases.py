"""The configurations that the program is recorded for."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

PASSWORD = "correct horse battery staple"
MIRROR = "mirror.example.com/lab"


@dataclass(frozen=True)
class Case:
    """A kind of cluster, and settings over the defaults."""

    environment: str
    settings: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = [f"{key}={value}" for key, value in self.settings.items() if "assword" not in key]
        return " ".join([self.environment, *shown, *("password" for key in self.settings if "assword" in key)])


REGISTRIES: dict[str, dict[str, object]] = {
    "local": {},
    "dockerhub": {"registry": "dockerhub", "dockerhubUser": "someone"},
    "host": {"registry": "registry.example.com/team"},
    "none": {"registry": "none"},
}
NEAR = ("kind", "minikube", "docker-desktop", "generic")
FAR = ("aks", "eks", "gke", "openshift")

CLUSTERS_AND_REGISTRIES = [
    *(Case(environment, REGISTRIES[registry]) for environment, registry in product(NEAR, REGISTRIES)),
    *(Case(environment, REGISTRIES[registry]) for environment, registry in product(FAR, ("dockerhub", "host"))),
    *(Case(environment, {"pullRegistry": "registry.example.com:5000"}) for environment in ("kind", "aks")),
]
VARIANTS = [
    Case("kind", {"gadget": "none"}),
    Case("kind", {"gadget": "memleak"}),
    Case("kind", {"grafana": False}),
    Case("kind", {"prometheus": False, "grafana": False}),
    Case("kind", {"prometheus": False, "prometheusUrl": "https://prometheus.example.com/"}),
    Case("kind", {"truth": True, "speed": 60, "chunkKiB": 1024, "capMiB": 300}),
    Case("kind", {"replicas": 10, "memoryLimitMiB": 4096}),
    Case("kind", {"grafanaAdminPassword": PASSWORD}),
    Case("kind", {"mirror": MIRROR}),
    Case("openshift", {**REGISTRIES["host"], "registryUsername": "robot", "registryPassword": PASSWORD}),
    Case("eks", {**REGISTRIES["dockerhub"], "registryPassword": PASSWORD, "gadget": "memleak"}),
    Case("gke", {**REGISTRIES["dockerhub"], "registryPassword": PASSWORD, "platform": "linux/arm64"}),
]
IN_CLUSTER = CLUSTERS_AND_REGISTRIES + VARIANTS
IN_DOCKER = [
    Case("kind", {"target": "docker"}),
    Case("kind", {"target": "docker", "grafana": False}),
    Case("kind", {"target": "docker", "truth": True}),
    Case("kind", {"target": "docker", "prometheus": False, "prometheusUrl": "http://host.docker.internal:9091"}),
    Case("kind", {"target": "docker", "grafanaAdminPassword": PASSWORD, "mirror": MIRROR}),
]
ALL = IN_CLUSTER + IN_DOCKER
