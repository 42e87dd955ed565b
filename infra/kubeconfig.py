"""What the kubeconfig says about the cluster: contexts and their servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Kubeconfig:
    """The contexts of every kubeconfig file, merged as kubectl merges them: the first mention wins.

    ``servers`` maps each context's name to its cluster's address; empty text where the cluster is not described.
    """

    current: str = ""
    servers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, environ: Mapping[str, str], home: Path) -> Kubeconfig:
        """Read the files that ``KUBECONFIG`` names, or ``~/.kube/config``; a missing file is an empty one.

        Raises:
            ValueError: a file is no YAML, or is not readable.
        """
        paths = [Path(path) for path in environ.get("KUBECONFIG", "").split(":") if path]
        documents = [_document(path) for path in paths or [home / ".kube" / "config"]]
        clusters: dict[str, str] = {}
        contexts: dict[str, str] = {}
        for document in documents:
            for entry in document.get("clusters") or ():
                clusters.setdefault(entry["name"], str((entry.get("cluster") or {}).get("server", "")))
            for entry in document.get("contexts") or ():
                contexts.setdefault(entry["name"], str((entry.get("context") or {}).get("cluster", "")))
        current = next((found for document in documents if (found := document.get("current-context"))), "")
        return cls(current, {name: clusters.get(cluster, "") for name, cluster in contexts.items()})


def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"kubeconfig {path} cannot be read: {error}") from error
    return document if isinstance(document, dict) else {}
