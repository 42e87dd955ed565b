"""A registry's manifests over HTTP, as far as resolving a tag needs them: digests are those of the bytes it serves."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.http_server import QuietHandler, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def image_index(*architectures: str, kind: str = INDEX) -> bytes:
    """A manifest list for processors; each entry is another image."""
    entries = [
        {
            "mediaType": MANIFEST,
            "digest": f"sha256:{hashlib.sha256(name.encode()).hexdigest()}",
            "size": 1000,
            "platform": {"architecture": name, "os": "linux"},
        }
        for name in architectures
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()


@dataclass
class Registry:
    """``tags`` are manifests by ``repository:tag``, ``files`` bodies by path.

    ``secured``: a question without a token is refused, and the refusal says where anybody gets one, as the public
    registries do. ``lies``: the digest header is of other bytes.
    """

    tags: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    secured: bool = False
    lies: bool = False
    address: str = ""
    asked: list[str] = field(default_factory=list)

    def digest(self, name: str) -> str:
        """The digest of a tag's manifest."""
        return f"sha256:{hashlib.sha256(self.tags[name]).hexdigest()}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[Registry]:
        """The registry at a loopback address of its own."""
        registry = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:  # noqa: N802 - the library calls it so
                registry.asked.append(self.path)
                path, _, query = self.path.partition("?")
                if path in registry.files:
                    return self.answer(200, registry.files[path])
                if path == "/token":
                    scope = query.rpartition("scope=")[2].replace("%3A", ":").replace("%2F", "/")
                    return self.answer(200, json.dumps({"token": f"for {scope}"}).encode())
                repository, _, tag = path.removeprefix("/v2/").partition("/manifests/")
                scope = f"repository:{repository}:pull"
                if registry.secured and self.headers.get("Authorization") != f"Bearer for {scope}":
                    challenge = f'Bearer realm="http://{registry.address}/token",service="here",scope="{scope}"'
                    return self.answer(401, b"", {"WWW-Authenticate": challenge})
                body = registry.tags.get(f"{repository}:{tag}")
                if body is None:
                    return self.answer(404, b"")
                kind = json.loads(body)["mediaType"]
                if kind not in self.headers["Accept"]:
                    return self.answer(404, b"")
                digest = hashlib.sha256(body + b"!" * registry.lies).hexdigest()
                return self.answer(200, body, {"Content-Type": kind, "Docker-Content-Digest": f"sha256:{digest}"})

        with serving(Handler) as self.address:
            yield self
