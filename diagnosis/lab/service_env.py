"""The environment variables of the service and of its visitors, as they are started on this machine.

The names and ranges are service/config.py's. The diagnosis does not import the service, so the names are written here
again, once: a test compares the two.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FREE_PORTS", "service_environ", "visitors_environ"]

# Reached from this machine only, and beside any other service. Everything else at its default.
FREE_PORTS: Final = {
    "LAB_HOST": "127.0.0.1",
    **dict.fromkeys(("LAB_HTTP_PORT", "LAB_METRICS_PORT", "LAB_LEDGER_PORT"), "0"),
}


def service_environ(*, speed: float, chunk_bytes: int, cap_bytes: int) -> dict[str, str]:
    """A service on free ports of 127.0.0.1 with this leak; the rest at its default."""
    return {
        **FREE_PORTS,
        "LAB_SPEED": f"{speed}",
        "LAB_CHUNK_BYTES": f"{chunk_bytes}",
        "LAB_CAP_BYTES": f"{cap_bytes}",
    }


def visitors_environ(http: str) -> dict[str, str]:
    """Visitors of the service at HOST:PORT."""
    return {"LAB_TARGET_URL": f"http://{http}"}
