"""What the stack asks of Inspektor Gadget before it runs this project's gadget: exactly its name, or its signature.

The registry serves the image from ig's own store; the signature is made as `cosign sign --key` makes it, by openssl.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comparison.guide import ig
from comparison.tools.gadget import cannot_build
from infra import versions

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.root,
    pytest.mark.ebpf,
    pytest.mark.skipif(bool(ig.missing()), reason=ig.missing() or "ig"),
    pytest.mark.skipif(bool(cannot_build()), reason=cannot_build() or "the gadget cannot be built"),
]

STORE = Path("/var/lib/ig/oci-store")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Registry:
    """One repository, of the blobs of ig's store and those that are added. ``tags`` are digests by name."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.added: dict[str, bytes] = {}
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.path.rpartition("/")[2]
                digest = registry.tags.get(asked, asked)
                content = registry.blob(digest) if self.path.startswith("/v2/memleak/") else None
                if self.path == "/v2/":
                    content = b"{}"
                self.send_response(200 if content is not None else 404)
                if content is not None and "/manifests/" in self.path:
                    self.send_header("Content-Type", json.loads(content).get("mediaType", MANIFEST))
                    self.send_header("Docker-Content-Digest", digest)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content or b"")

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.image = f"{self.host}/memleak:v1"

    def blob(self, digest: str) -> bytes | None:
        file = STORE / "blobs" / "sha256" / digest.removeprefix("sha256:")
        return self.added.get(digest) or (file.read_bytes() if digest.startswith("sha256:") and file.exists() else None)

    def add(self, content: bytes) -> dict[str, object]:
        self.added[digest_of(content)] = content
        return {"digest": digest_of(content), "size": len(content)}

    def sign(self, key: Path) -> None:
        """What `cosign sign --key` pushes: a tag named by the image's digest, of a payload that names it."""
        digest = self.tags["v1"]
        critical = {
            "identity": {"docker-reference": f"{self.host}/memleak"},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        }
        payload = json.dumps({"critical": critical, "optional": None}).encode()
        words = ["openssl", "dgst", "-sha256", "-sign", str(key)]
        signature = subprocess.run(words, input=payload, capture_output=True, check=True).stdout
        noted = {"dev.cosignproject.cosign/signature": base64.b64encode(signature).decode()}
        layer = {"mediaType": PAYLOAD, **self.add(payload), "annotations": noted}
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", **self.add(b"{}")}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
        found = self.add(json.dumps(manifest).encode())
        self.tags[f"{digest.replace(':', '-')}.sig"] = str(found["digest"])


@pytest.fixture
def registry() -> Iterator[Registry]:
    ig.build_image("memleak:signature")
    index = json.loads((STORE / "index.json").read_text())
    found = Registry()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    named = "org.opencontainers.image.ref.name"
    found.tags["v1"] = next(
        one["digest"]
        for one in index["manifests"]
        if one.get("annotations", {}).get(named, "").endswith("memleak:signature")
    )
    try:
        yield found
    finally:
        found.server.shutdown()
        found.server.server_close()
        thread.join()
        for name in ("memleak:signature", found.image, f"{found.image}@{found.tags['v1']}"):
            subprocess.run(["ig", "image", "remove", name], check=False, capture_output=True)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, str]:
    """A private key's file, and the public key."""
    key = tmp_path / "cosign.key"
    subprocess.run(["openssl", "ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", key], check=True)
    made = subprocess.run(["openssl", "ec", "-in", key, "-pubout"], capture_output=True, text=True, check=True)
    return key, made.stdout


def refusal(registry: Registry, image: str, *options: str) -> str:
    """Why the daemon's code would not run the image; "" where it would."""
    words = ig.ig("image", "inspect", image, "--pull", "always", f"--insecure-registries={registry.host}", *options)
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    return "" if done.returncode == 0 else done.stderr


def test_without_a_signature_the_gadget_runs_under_exactly_its_name(registry: Registry) -> None:
    off = "--verify-image=false"
    assert refusal(registry, registry.image, off, f"--allowed-gadgets={registry.image}") == ""
    for other in (f"{registry.host}/memleak:v2", f"{registry.host}/memlea:v1", f"{registry.host}/memleak:v"):
        assert "is not part of allowed gadgets" in refusal(registry, registry.image, off, f"--allowed-gadgets={other}")


def test_with_a_key_it_runs_only_if_that_key_signed_it(registry: Registry, keys: tuple[Path, str]) -> None:
    key, public = keys
    assert "signature" in refusal(registry, registry.image, f"--public-keys={public}"), "nobody signed it"
    registry.sign(key)
    both = f"--public-keys={versions.GADGET_PUBLIC_KEY},{public}"
    assert refusal(registry, registry.image, both) == "", "as the stack gives them"
    assert "signature" in refusal(registry, registry.image), "its own key is not the one that signed"


def test_a_gadget_is_found_by_tag_and_digest(registry: Registry) -> None:
    named = f"{registry.image}@{registry.tags['v1']}"
    assert refusal(registry, named, "--verify-image=false", f"--allowed-gadgets={named}") == ""
