"""Every version that the program pins. A test holds each to a tag, and none to `latest`.

The digests that go with the tags are in pins.json, where `make pins` writes what the registries answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from infra.references import mirrored, split_host

if TYPE_CHECKING:
    from collections.abc import Mapping

PROMETHEUS_IMAGE = "docker.io/prom/prometheus:v3.13.0"
GRAFANA_IMAGE = "docker.io/grafana/grafana:13.2.3"
# Debian carries bpftrace and BCC; the diagnosis commands install what they run.
TOOLBOX_IMAGE = "docker.io/library/debian:trixie-slim"
# What the leaker's image is built on, unless the stack's baseImage names another.
BASE_IMAGE = "docker.io/library/python:3.13-slim-trixie"
# The registry that `make kind` starts.
REGISTRY_IMAGE = "docker.io/library/registry:3.0.0"

GADGET_VERSION = "0.55.1"
GADGET_CHART = "oci://ghcr.io/inspektor-gadget/inspektor-gadget/charts/gadget"
GADGET_IMAGE = f"ghcr.io/inspektor-gadget/inspektor-gadget:v{GADGET_VERSION}"
TRACE_MALLOC_IMAGE = f"ghcr.io/inspektor-gadget/gadget/trace_malloc:v{GADGET_VERSION}"
# The key that signs the stock gadgets: the chart's default, which a list of one's own replaces.
GADGET_PUBLIC_KEY = """\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoDOC0gYSxZTopenGmX3ZFvQ1DSfh
Ir4EKRt5jC+mXaJ7c7J+oREskYMn/SfZdRHNSOjLTZUMDm60zpXGhkFecg==
-----END PUBLIC KEY-----
"""
# The checksums of a release's archives: its digest is that of all of them.
GADGET_CHECKSUMS = (
    f"https://github.com/inspektor-gadget/inspektor-gadget/releases/download/v{GADGET_VERSION}/SHA256SUMS"
)
# The tag under which `make gadget` pushes this project's own gadget.
MEMLEAK_GADGET_TAG = "v0.1.0"

IMAGES: Final = (
    PROMETHEUS_IMAGE,
    GRAFANA_IMAGE,
    TOOLBOX_IMAGE,
    BASE_IMAGE,
    REGISTRY_IMAGE,
    GADGET_IMAGE,
    TRACE_MALLOC_IMAGE,
)
DOWNLOADS: Final = (GADGET_CHECKSUMS,)

PINS_FILE: Final = Path(__file__).with_name("pins.json")
_PINS: Final[Mapping[str, Mapping[str, str]]] = json.loads(PINS_FILE.read_text(encoding="utf-8"))
# Image references and addresses of files, with what `make pins` found behind them: sha256:... and a bare SHA-256.
IMAGE_DIGESTS: Final[Mapping[str, str]] = _PINS["images"]
DOWNLOAD_SUMS: Final[Mapping[str, str]] = _PINS["downloads"]


def pinned(reference: str) -> str:
    """``repository:tag@sha256:...`` where the digest is known; as it is where it is not, or has one already."""
    digest = IMAGE_DIGESTS.get("/".join(split_host(reference)))
    return f"{reference}@{digest}" if digest else reference


@dataclass(frozen=True)
class ThirdParty:
    """How a stack names the images that are not built here.

    ``mirror`` is the registry that carries them all; empty: each comes from its own. ``digests``: by digest beside the
    tag, wherever pins.json has one.
    """

    mirror: str
    digests: bool

    def image(self, reference: str) -> str:
        """The image's name for this stack."""
        return mirrored(pinned(reference) if self.digests else reference, self.mirror)
