"""The service's own settings, as environment variables: the same in a pod and in a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi

if TYPE_CHECKING:
    from infra.config import Leak

# The user of the image, of its pods and of its containers: the number in service/Dockerfile, and no other service's.
SERVICE_USER = 10001
HTTP_PORT = 8080
METRICS_PORT = 9090
LEDGER_PORT = 9091
# Where `memleak-lab trace --listen` is expected, on the machine that runs the containers.
TRACER_PORT = 9435
VISITORS_COMMAND = ("python", "-m", "service.visitors")


def leaker_variables(leak: Leak) -> dict[str, str]:
    """What `python -m service` reads. The limit that the claims divide by is the limit that the kernel enforces.

    The names and ranges are service/config.py's. This program runs without the service's packages, so they are written
    here again, and a test compares the two.
    """
    return {
        "LAB_SPEED": f"{leak.speed:g}",
        "LAB_CHUNK_BYTES": str(leak.chunk_bytes),
        "LAB_CAP_BYTES": str(leak.cap_bytes),
        "LAB_MEMORY_LIMIT_BYTES": str(leak.memory_limit_bytes),
        "LAB_HTTP_PORT": str(HTTP_PORT),
        "LAB_METRICS_PORT": str(METRICS_PORT),
        "LAB_LEDGER_PORT": str(LEDGER_PORT),
    }


def visitors_variables(host: pulumi.Input[str]) -> dict[str, pulumi.Output[str]]:
    """What `python -m service.visitors` reads. ``host`` is the leaker's."""
    return {"LAB_TARGET_URL": pulumi.Output.format("http://{0}:{1}", host, HTTP_PORT)}
