"""What the service says about itself, read the way its team reads it: /health and /metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from diagnosis.base.errors import LabError
from diagnosis.base.text import safe_text
from diagnosis.lab.answers import UNUSABLE, reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_SECONDS = 5.0
LOOKUP_PATH = "/api/items/{id}"
DURATION = "http_request_duration_seconds"


@dataclass(frozen=True)
class Claims:
    """One reading of /health and /metrics. ``lookup_seconds`` is the mean since the reading before."""

    status: str
    message: str
    memory_usage_percent: float
    resident_bytes: int
    health_checks: Mapping[str, str]
    lookup_seconds: float


@dataclass(frozen=True)
class ClaimsWindow:
    """What the service claimed at both ends of a traced window."""

    start: Claims
    end: Claims


class ClaimsClient:
    """Reads the claims over HTTP.

    Args:
        http: HOST:PORT of the service.
        metrics: HOST:PORT of its metrics.
    """

    def __init__(self, http: str, metrics: str) -> None:
        self._health = f"http://{http}/health"
        self._metrics = f"http://{metrics}/metrics"
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False)
        self._lookups = (0.0, 0.0)
        self._lookup_seconds = 0.0

    def read(self) -> Claims:
        """One reading.

        Raises:
            LabError: the service does not answer, or something else does.
        """
        try:
            health: dict[str, Any] = self._client.get(self._health).json()
            self._measure_lookups(self._client.get(self._metrics).raise_for_status().text)
            return Claims(
                status=safe_text(health["status"]),
                message=safe_text(health["message"]),
                memory_usage_percent=health["metrics"]["memory_usage_percent"],
                resident_bytes=health["metrics"]["resident_memory_bytes"],
                health_checks={safe_text(name): safe_text(result) for name, result in health["health_checks"].items()},
                lookup_seconds=self._lookup_seconds,
            )
        except UNUSABLE as error:
            what = f"the service does not answer as it should: {reason_of(error)}"
            raise LabError(what, f"see whether it runs: curl {self._health} {self._metrics}") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _measure_lookups(self, metrics: str) -> None:
        sums = {
            sample.name: sample.value
            for family in text_string_to_metric_families(metrics)
            if family.name == DURATION
            for sample in family.samples
            if sample.labels.get("path") == LOOKUP_PATH and "le" not in sample.labels
        }
        count, seconds = sums.get(f"{DURATION}_count", 0.0), sums.get(f"{DURATION}_sum", 0.0)
        if count > self._lookups[0]:
            self._lookup_seconds = (seconds - self._lookups[1]) / (count - self._lookups[0])
        self._lookups = count, seconds
