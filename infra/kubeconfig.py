"""What the kubeconfig says about the cluster: contexts and their servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Kubeconfig:
    """The contexts of the kubeconfig.

    ``servers`` maps each context's name to its cluster's address; empty text where the cluster is not described.
    ``problem`` says why the file cannot be used, with the lines that fix it; empty where it can. Whoever needs no
    cluster does not mind it.
    """

    current: str = ""
    servers: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @classmethod
    def read(cls, environ: Mapping[str, str], home: Path) -> Kubeconfig:
        """Read the file that ``KUBECONFIG`` names, or ``~/.kube/config``; a missing file is an empty one."""
        named = environ.get("KUBECONFIG", "")
        if ":" in named:
            # Pulumi's SDK hands the variable to the provider, which takes it for one path.
            merge = "kubectl config view --flatten > ~/.kube/memleak-lab\n    export KUBECONFIG=~/.kube/memleak-lab"
            return cls(problem=f"KUBECONFIG is {named!r}, and Pulumi's provider reads one file only:\n    {merge}")
        path = Path(named) if named else home / ".kube" / "config"
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            clusters = {entry["name"]: entry["cluster"].get("server", "") for entry in document.get("clusters") or ()}
            contexts = {entry["name"]: entry["context"]["cluster"] for entry in document.get("contexts") or ()}
            current = document.get("current-context") or ""
        except FileNotFoundError:
            return cls()
        except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
            return cls(problem=f"the kubeconfig {path} cannot be read: {error}\n    kubectl config view")
        return cls(current, {name: clusters.get(cluster, "") for name, cluster in contexts.items()})
