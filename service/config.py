"""What the environment says, read once into frozen records: every variable begins with ``LAB_``."""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from catalog_cache import MIB, RANGES, OptionError, Options

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ConfigError", "ServiceConfig", "VisitorsConfig"]

GIB: Final = 1024 * MIB
PREFIX: Final = "LAB_"
LOOPBACK: Final = "127.0.0.1"
# Where the leak's own options have their defaults and ranges: the service adds none of its own.
LEAK: Final = Options()


class ConfigError(ValueError):
    """A variable that cannot be used. The text is one line: the variable, its value and what is allowed."""


def variable(field: str) -> str:
    """The environment variable of a field of `ServiceConfig` or `VisitorsConfig`."""
    return PREFIX + field.upper()


@dataclass(frozen=True)
class _Config:
    def environ(self) -> dict[str, str]:
        """The variables from which ``from_environ`` reads this configuration."""
        return {variable(field): str(value) for field, value in asdict(self).items()}


@dataclass(frozen=True)
class ServiceConfig(_Config):
    """How ``python -m service`` runs. A port of 0 is any free port; the ledger listens on 127.0.0.1 only."""

    speed: float = LEAK.speed
    chunk_bytes: int = LEAK.chunk_bytes
    cap_bytes: int = LEAK.cap_bytes
    memory_limit_bytes: int = 2560 * MIB
    host: str = "0.0.0.0"  # noqa: S104 a pod is reached from outside
    http_port: int = 8080
    metrics_port: int = 9090
    ledger_port: int = 9091

    @classmethod
    def on_free_ports(cls, *, speed: float = speed, chunk_bytes: int = chunk_bytes, cap_bytes: int = cap_bytes) -> Self:
        """A service for its caller only: on free ports of 127.0.0.1."""
        return cls(
            speed,
            chunk_bytes,
            cap_bytes,
            host=LOOPBACK,
            **dict.fromkeys(("http_port", "metrics_port", "ledger_port"), 0),
        )

    @property
    def leak(self) -> Options:
        """The leak's options.

        Raises:
            OptionError: one is out of its range.
        """
        return Options(chunk_bytes=self.chunk_bytes, cap_bytes=self.cap_bytes, speed=self.speed)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the configuration.

        Raises:
            ConfigError: a variable is unknown or out of its range.
        """
        env = _Environment(environ)
        ports = {
            field: env.whole(field, default, 0, 65_535, "(0: any free port)")
            for field, default in (
                ("http_port", cls.http_port),
                ("metrics_port", cls.metrics_port),
                ("ledger_port", cls.ledger_port),
            )
        }
        seen: dict[int, str] = {}
        for field, port in ports.items():
            if port and port in seen:
                raise ConfigError(
                    f"{variable(field)} is '{port}', and so is {variable(seen[port])}: "
                    "the three ports must differ, or be 0"
                )
            seen[port] = field
        host = env.text("host", cls.host)
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ConfigError(
                f"{variable('host')} is {host!r}: it must be an IP address of this machine, "
                "such as 127.0.0.1, 0.0.0.0 or ::"
            ) from None
        config = cls(
            speed=env.number("speed", cls.speed, *RANGES["speed"]),
            chunk_bytes=env.whole("chunk_bytes", cls.chunk_bytes, *RANGES["chunk_bytes"]),
            cap_bytes=env.whole("cap_bytes", cls.cap_bytes, *RANGES["cap_bytes"]),
            memory_limit_bytes=env.whole("memory_limit_bytes", cls.memory_limit_bytes, 64 * MIB, 1024 * GIB, "bytes"),
            host=host,
            **ports,
        )
        try:
            _ = config.leak
        except OptionError as error:
            raise ConfigError(f"{variable(error.option)} is '{error.value}': it must {error.must}") from None
        return config


@dataclass(frozen=True)
class VisitorsConfig(_Config):
    """How ``python -m service.visitors`` runs."""

    target_url: str = "http://127.0.0.1:8080"
    visitors_per_second: float = 10.0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the configuration.

        Raises:
            ConfigError: a variable is unknown or out of its range.
        """
        env = _Environment(environ)
        url = env.text("target_url", cls.target_url)
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:  # a port that is no number, or above 65535
            usable = False
        if not usable:
            raise ConfigError(
                f"{variable('target_url')} is {url!r}: it must be http://HOST[:PORT] or https://HOST[:PORT]"
            )
        return cls(
            target_url=url.rstrip("/"),
            visitors_per_second=env.number(
                "visitors_per_second", cls.visitors_per_second, 0.1, 1000, "requests a second"
            ),
        )


class _Environment:
    """Typed reading of ``LAB_`` variables, by the name of their field.

    Raises:
        ConfigError: a ``LAB_`` variable that neither program knows. A shell may hold the variables of both, so each
            program accepts the other's names.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        known = sorted(variable(field.name) for config in (ServiceConfig, VisitorsConfig) for field in fields(config))
        for name in sorted(environ):
            if name.startswith(PREFIX) and name not in known:
                nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
                raise ConfigError(f"{name} is no known variable: did you mean {nearest}?")

    def text(self, field: str, default: str) -> str:
        return self._environ.get(variable(field), default)

    def whole(self, field: str, default: int, low: float, high: float, unit: str) -> int:
        text = self.text(field, str(default))
        # int() would take 1_000, +1 and digits of other scripts. Nineteen digits hold every limit here.
        if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) or not low <= int(text) <= high:
            raise ConfigError(
                f"{variable(field)} is {text!r}: it must be a whole number from {low:.0f} to {high:.0f} {unit}"
            )
        return int(text)

    def number(self, field: str, default: float, low: float, high: float, unit: str) -> float:
        text = self.text(field, str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ConfigError(f"{variable(field)} is {text!r}: it must be a number from {low:g} to {high:g} {unit}")
        return value
