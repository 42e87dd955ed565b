"""The stack's settings as they are written: typed readings that gather every error before one error is raised."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pulumi
from pulumi.runtime import config as runtime

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping, Sequence

# The value "" means unset: Pulumi.yaml cannot declare an optional key otherwise.
DEFAULTS: Mapping[str, str] = {
    "target": "kubernetes",
    "environment": "auto",
    "context": "",
    "nodeNetworks": "",
    "namespace": "memleak-demo",
    "registry": "local",
    "localRegistry": "localhost:5001",
    "pullRegistry": "",
    "dockerhubUser": "",
    "registryUsername": "",
    "registryPassword": "",
    "imageName": "memleak-demo",
    "baseImage": "python:3.13-slim-trixie",
    "buildNetwork": "",
    "platform": "",
    "mirror": "",
    "digests": "true",
    "speed": "1",
    "chunkKiB": "64",
    "capMiB": "2000",
    "memoryLimitMiB": "0",
    "replicas": "1",
    "prometheus": "true",
    "prometheusUrl": "",
    "grafana": "true",
    "gadget": "trace_malloc",
    "gadgetImage": "",
    "gadgetPublicKey": "",
    "gadgetChart": "",
    "grafanaAdminPassword": "",
    "truth": "false",
}
SECRETS = frozenset({"registryPassword", "grafanaAdminPassword"})


class ConfigError(pulumi.RunError):
    """The stack's configuration cannot be used. Pulumi prints the text without a traceback and declares nothing."""


@dataclass(frozen=True)
class Secret:
    """A value that reaches Pulumi only as a secret, and no log or repr."""

    value: str = field(repr=False)

    def output(self) -> pulumi.Output[str]:
        """The value as Pulumi's secret: encrypted in the state, and masked where it is printed."""
        return pulumi.Output.secret(self.value)


class Settings:
    """The project's keys of one stack.

    Each reading returns a usable value and notes what is wrong with the written one; `raise_errors` ends the
    program when anything was noted, so that one `pulumi up` names everything there is to fix.
    """

    def __init__(self, values: Mapping[str, str], secret_keys: frozenset[str] = frozenset()) -> None:
        self._values = {key: value for key, value in values.items() if value != ""}
        self._secret_keys = secret_keys
        self.errors: list[str] = []
        for key in sorted(set(values) - set(DEFAULTS)):
            near = difflib.get_close_matches(key, DEFAULTS, n=1, cutoff=0.5)
            fix = f"\n    pulumi config rm {key}"
            if near:
                value = "VALUE" if near[0] in SECRETS or key in secret_keys else values[key]
                fix = f"; the nearest is {near[0]}:{fix}\n    pulumi config set {near[0]} {value}"
            self.errors.append(f"{key} is no setting of this project{fix}")

    @classmethod
    def of_stack(cls, project: str) -> Settings:
        """What the engine, or a test's set_all_config, handed to this program under the project's name."""
        prefix = f"{project}:"
        written = {**runtime.get_config_env(), **runtime.CONFIG.get()}
        values = {key.removeprefix(prefix): _text(value) for key, value in written.items() if key.startswith(prefix)}
        secret_keys = frozenset(
            key
            for key in values
            if runtime.is_config_secret(prefix + key) or prefix + key in runtime.get_config_secret_keys_env()
        )
        return cls(values, secret_keys)

    def add_error(self, what: str, *commands: str) -> None:
        """Note what is wrong and the lines that fix it."""
        self.errors.append("\n    ".join((what, *commands)))

    def raise_errors(self) -> None:
        """End the program if anything was noted.

        Raises:
            ConfigError: with every error and the lines to type.
        """
        if self.errors:
            raise ConfigError("the stack's configuration needs a change\n\n" + "\n\n".join(self.errors))

    def text(self, key: str, pattern: re.Pattern[str] | None = None, example: str = "") -> str:
        """The text, which matches ``pattern`` as a whole; empty where it is unset and has no default."""
        value = self._values.get(key, DEFAULTS[key])
        if value and pattern and not pattern.fullmatch(value):
            self.add_error(
                f"{key} is {value!r}: it must have the form of {example}:", f"pulumi config set {key} {example}"
            )
            return DEFAULTS[key]
        return value

    def choice(self, key: str, choices: Sequence[str], refused: Sequence[str] = ()) -> str:
        """One of ``choices``, or of ``refused``, which are recognised for an error of their own and never proposed."""
        value = self._values.get(key, DEFAULTS[key])
        if value in choices or value in refused:
            return value
        near = difflib.get_close_matches(value, choices, n=1)
        self.add_error(
            f"{key} is {value!r}: it must be one of {', '.join(choices)}:",
            f"pulumi config set {key} {near[0] if near else choices[0]}",
        )
        return choices[0]

    def flag(self, key: str) -> bool:
        """True or false."""
        return self.choice(key, ("true", "false") if DEFAULTS[key] == "true" else ("false", "true")) == "true"

    def number(self, key: str, low: float, high: float, unit: str) -> float:
        """A number from ``low`` to ``high``."""
        return self._number(key, low, high, f"a number from {low:g} to {high:g} {unit}")

    def integer(self, key: str, low: int, high: int, unit: str) -> int:
        """A whole number from ``low`` to ``high``."""
        allowed = f"a whole number from {low} to {high} {unit}"
        value = self._number(key, low, high, allowed)
        if not value.is_integer():
            self.add_error(f"{key} is {value:g}: it must be {allowed}:", f"pulumi config set {key} {round(value)}")
        return int(value)

    def _number(self, key: str, low: float, high: float, allowed: str) -> float:
        written = self._values.get(key, DEFAULTS[key])
        try:
            value = float(written)
        except ValueError:
            value = math.nan
        if low <= value <= high:
            return value
        self.add_error(f"{key} is {written!r}: it must be {allowed}:", f"pulumi config set {key} {DEFAULTS[key]}")
        return float(DEFAULTS[key])

    def secret(self, key: str) -> Secret | None:
        """The secret, or None where it is unset. One written in plain text is refused."""
        value = self._values.get(key)
        if value is None:
            return None
        if key not in self._secret_keys:
            self.add_error(f"{key} stands in the stack's file in plain text:", f"pulumi config set --secret {key}")
        return Secret(value)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
