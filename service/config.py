"""What the environment says, read once into frozen records: every variable begins with ``LAB_``."""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ConfigError", "ServiceConfig", "VisitorsConfig"]

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

PREFIX = "LAB_"
SERVICE_NAMES = frozenset(
    {
        "LAB_SPEED",
        "LAB_CHUNK_BYTES",
        "LAB_CAP_BYTES",
        "LAB_MEMORY_LIMIT_BYTES",
        "LAB_HOST",
        "LAB_HTTP_PORT",
        "LAB_METRICS_PORT",
        "LAB_LEDGER_PORT",
    }
)
VISITORS_NAMES = frozenset({"LAB_TARGET_URL", "LAB_VISITORS_PER_SECOND"})


class ConfigError(ValueError):
    """A variable that cannot be used. The text is one line: the variable, its value and what is allowed."""


class _Environment:
    """Typed reading of ``LAB_`` variables.

    Raises:
        ConfigError: a ``LAB_`` variable that neither program knows. A shell may hold the variables of both, so each
            program accepts the other's names.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        known = sorted(SERVICE_NAMES | VISITORS_NAMES)
        for name in sorted(environ):
            if name.startswith(PREFIX) and name not in known:
                nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
                raise ConfigError(f"{name} is no known variable: did you mean {nearest}?")

    def text(self, name: str, default: str) -> str:
        return self._environ.get(name, default)

    def whole(self, name: str, default: int, low: int, high: int, unit: str) -> int:
        text = self._environ.get(name, str(default))
        # int() would take 1_000, +1 and digits of other scripts. Nineteen digits hold every limit here.
        if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) or not low <= int(text) <= high:
            raise ConfigError(f"{name} is {text!r}: it must be a whole number from {low} to {high} {unit}")
        return int(text)

    def number(self, name: str, default: float, low: float, high: float, unit: str) -> float:
        text = self._environ.get(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ConfigError(f"{name} is {text!r}: it must be a number from {low:g} to {high:g} {unit}")
        return value


@dataclass(frozen=True)
class ServiceConfig:
    """How ``python -m service`` runs. A port of 0 is any free port; the ledger listens on 127.0.0.1 only."""

    speed: float
    chunk_bytes: int
    cap_bytes: int
    memory_limit_bytes: int
    host: str
    http_port: int
    metrics_port: int
    ledger_port: int

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ServiceConfig:
        """Read the configuration.

        Raises:
            ConfigError: a variable is unknown or out of its range.
        """
        env = _Environment(environ)
        ports = {
            name: env.whole(name, default, 0, 65_535, "(0: any free port)")
            for name, default in (("LAB_HTTP_PORT", 8080), ("LAB_METRICS_PORT", 9090), ("LAB_LEDGER_PORT", 9091))
        }
        seen: dict[int, str] = {}
        for name, port in ports.items():
            if port and port in seen:
                raise ConfigError(f"{name} is '{port}', and so is {seen[port]}: the three ports must differ, or be 0")
            seen[port] = name
        chunk = env.whole("LAB_CHUNK_BYTES", 64 * KIB, 4 * KIB, MIB, "bytes")
        if MIB % chunk:
            raise ConfigError(
                f"LAB_CHUNK_BYTES is '{chunk}': it must divide the {MIB} bytes of a refresh, "
                f"as the powers of two from {4 * KIB} to {MIB} do"
            )
        host = env.text("LAB_HOST", "0.0.0.0")  # noqa: S104 a pod is reached from outside
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ConfigError(
                f"LAB_HOST is {host!r}: it must be an IP address of this machine, such as 127.0.0.1, 0.0.0.0 or ::"
            ) from None
        return cls(
            speed=env.number("LAB_SPEED", 1.0, 0.1, 1000, "times real time"),
            chunk_bytes=chunk,
            cap_bytes=env.whole("LAB_CAP_BYTES", 2000 * MIB, 0, 64 * GIB, "bytes (0: no leak)"),
            memory_limit_bytes=env.whole("LAB_MEMORY_LIMIT_BYTES", 2560 * MIB, 64 * MIB, 1024 * GIB, "bytes"),
            host=host,
            http_port=ports["LAB_HTTP_PORT"],
            metrics_port=ports["LAB_METRICS_PORT"],
            ledger_port=ports["LAB_LEDGER_PORT"],
        )


@dataclass(frozen=True)
class VisitorsConfig:
    """How ``python -m service.visitors`` runs."""

    target_url: str
    per_second: float

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> VisitorsConfig:
        """Read the configuration.

        Raises:
            ConfigError: a variable is unknown or out of its range.
        """
        env = _Environment(environ)
        url = env.text("LAB_TARGET_URL", "http://127.0.0.1:8080")
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:  # a port that is no number, or above 65535
            usable = False
        if not usable:
            raise ConfigError(f"LAB_TARGET_URL is {url!r}: it must be http://HOST[:PORT] or https://HOST[:PORT]")
        return cls(
            target_url=url.rstrip("/"),
            per_second=env.number("LAB_VISITORS_PER_SECOND", 10.0, 0.1, 1000, "requests a second"),
        )
