"""Every version that the program pins. A test holds each to a tag, and none to `latest`."""

from __future__ import annotations

PROMETHEUS_IMAGE = "docker.io/prom/prometheus:v3.13.0"
GRAFANA_IMAGE = "docker.io/grafana/grafana:13.2.3"
# Debian carries bpftrace and BCC; the diagnosis commands install what they run.
TOOLBOX_IMAGE = "docker.io/library/debian:trixie-slim"
# The registry that `make kind` starts.
REGISTRY_IMAGE = "docker.io/library/registry:3.0.0"

GADGET_VERSION = "0.55.1"
GADGET_CHART = "oci://ghcr.io/inspektor-gadget/inspektor-gadget/charts/gadget"
GADGET_IMAGE = "ghcr.io/inspektor-gadget/inspektor-gadget"
TRACE_MALLOC_IMAGE = f"ghcr.io/inspektor-gadget/gadget/trace_malloc:v{GADGET_VERSION}"
# The tag under which `make gadget` pushes this project's own gadget.
MEMLEAK_GADGET_TAG = "v0.1.0"
