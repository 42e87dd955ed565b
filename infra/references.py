"""Image references: taken apart, checked, and moved to a mirror."""

from __future__ import annotations

import ipaddress
import re

DOCKER_HUB = "docker.io"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
# What a reference is made of; Docker and registries say more of what is wrong with one.
REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
# A host is told from a repository's first part by a dot, a port, or the name localhost: Docker's own rule.
REGISTRY = re.compile(
    rf"(?:localhost(?::\d{{1,5}})?|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::\d{{1,5}})?|[A-Za-z0-9-]+:\d{{1,5}})"
    rf"(?:/{_COMPONENT})*"
)


def has_host(reference: str) -> bool:
    """Whether the reference names its registry, as Docker tells one from a repository's first part."""
    first, slash, _ = reference.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def split_host(reference: str) -> tuple[str, str]:
    """The registry host and the rest, as Docker reads a reference.

    ``python:3.13`` is ``("docker.io", "library/python:3.13")``.
    """
    first, slash, rest = reference.partition("/")
    if has_host(reference):
        return first, rest
    return DOCKER_HUB, reference if slash else f"library/{reference}"


def split_tag(reference: str) -> tuple[str, str]:
    """The repository, and what follows the colon or the @ behind it: a tag, a digest, or both; empty: neither.

    ``a:5000/b:v1@sha256:0`` is ``("a:5000/b", "v1@sha256:0")``.
    """
    host, slash, rest = reference.rpartition("/")
    name = re.split("[:@]", rest, maxsplit=1)[0]
    return f"{host}{slash}{name}", rest[len(name) + 1 :]


def mirrored(reference: str, mirror: str) -> str:
    """The reference under ``mirror``, which carries repositories under their own paths; as it is with no mirror."""
    if not mirror:
        return reference
    scheme, separator, rest = reference.rpartition("://")
    return f"{scheme}{separator}{mirror}/{split_host(rest)[1]}"


def is_loopback(registry: str) -> bool:
    """Whether the registry's name means "this machine", which is another machine to a cluster's node."""
    host = registry.partition("/")[0].rpartition(":")[0] or registry.partition("/")[0]
    return host == "localhost" or host.startswith("127.") or host == "[::1]"


def with_digest(reference: str, digest: str) -> str:
    """``repository:tag@sha256:...``, with the digest that ``digest`` ends in; as it is where that has none."""
    _, found, hexadecimal = digest.rpartition("sha256:")
    return f"{reference.partition('@')[0]}@{found}{hexadecimal}" if found else reference


def insecure(registry: str) -> str:
    """The registry's host, if its name says that it is of this machine or of this cluster, and has no TLS."""
    host = registry.partition("/")[0]
    name = host.partition(":")[0]
    try:
        inner = ipaddress.ip_address(name).is_private
    except ValueError:
        inner = is_loopback(registry) or name.endswith((".local", ".internal")) or "." not in name
    return host if inner else ""
