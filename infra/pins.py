"""`make pins`: the digests behind the tags of infra/versions.py, as their registries answer today.

What was found is written to infra/pins.json, all of it or nothing. With it a tag that is moved later changes nothing
here. Every registry is asked without a login, as nodes without one pull.
"""

from __future__ import annotations

import argparse
import hashlib
import http
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from infra import versions
from infra.references import DOCKER_HUB, insecure, mirrored, split_host, split_tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SECONDS: Final = 30.0
MOST_BYTES: Final = 4 * 2**20
# Lists of images by processor, in both spellings. A manifest of one processor would be of no use to the other nodes.
_INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
# Docker Hub's name, and the address of its registry.
_HUB: Final = "registry-1.docker.io"
_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')


class PinError(Exception):
    """A tag or a file whose digest cannot be had: which one, and why."""


@dataclass(frozen=True)
class Answer:
    """What a server sent: its status, its headers, and the first `MOST_BYTES` and one of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """A header's value, whatever case its name was sent in; empty: there is none."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "")


def image_digest(reference: str) -> str:
    """``sha256:...`` of the list of images behind a tag, computed from the bytes that the registry sent.

    Raises:
        PinError: the registry has no answer, no such tag, one processor's image only, or names another digest.
    """
    repository, tag = split_tag(reference)
    host, path = split_host(repository)
    scheme = "http" if insecure(host) else "https"
    url = f"{scheme}://{_HUB if host == DOCKER_HUB else host}/v2/{path}/manifests/{tag}"
    headers = {"Accept": ", ".join((*_INDEXES, *_MANIFESTS))}
    answer = _get(reference, url, headers)
    if answer.status == http.HTTPStatus.UNAUTHORIZED:
        token = _token(reference, answer.header("WWW-Authenticate"), scheme)
        answer = _get(reference, url, {**headers, "Authorization": f"Bearer {token}"})
    _require_whole(reference, answer)
    kind = answer.header("Content-Type").partition(";")[0]
    if kind not in _INDEXES:
        raise PinError(f"{reference}: {kind or 'no type'} is no list of images by processor: was it repacked?")
    digest = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
    said = answer.header("Docker-Content-Digest") or digest
    if said != digest:
        raise PinError(f"{reference}: the registry says {said[:80]!r}, and what it sent is {digest}")
    return digest


def download_sum(url: str) -> str:
    """The SHA-256 of a file.

    Raises:
        PinError: the server has no answer or no such file.
    """
    answer = _get(url, url, {})
    _require_whole(url, answer)
    return hashlib.sha256(answer.body).hexdigest()


def _token(reference: str, challenge: str, scheme: str) -> str:
    """A token for anybody, from where the registry's refusal sends those who have none."""
    parameters = dict(_PARAMETER.findall(challenge))
    realm = parameters.pop("realm", "")
    if not challenge.lower().startswith("bearer ") or not realm.startswith(f"{scheme}://"):
        raise PinError(f"{reference}: the registry wants a login: {challenge[:200]!r}")
    answer = _get(reference, f"{realm}?{urllib.parse.urlencode(parameters)}", {})
    _require_whole(reference, answer)
    try:
        document = json.loads(answer.body)
        return str(document.get("token") or document["access_token"])
    except (ValueError, LookupError, AttributeError):
        raise PinError(f"{reference}: {realm} gave no token") from None


def _get(what: str, url: str, headers: Mapping[str, str]) -> Answer:
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - http or https, made above
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310
            return Answer(response.status, dict(response.headers), response.read(MOST_BYTES + 1))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, dict(error.headers), b"")
    except (OSError, http.client.HTTPException) as error:
        raise PinError(f"{what}: {urllib.parse.urlsplit(url).netloc} does not answer: {error}") from None


def _require_whole(what: str, answer: Answer) -> None:
    if answer.status != http.HTTPStatus.OK:
        raise PinError(f"{what}: the server's answer is {answer.status}")
    if len(answer.body) > MOST_BYTES:
        raise PinError(f"{what}: the answer has more than {MOST_BYTES >> 20} MiB")


def resolve(
    mirror: str, images: Sequence[str], downloads: Sequence[str]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The content of pins.json, and what is wrong, in a line each.

    ``mirror`` is asked for every image; empty: each image's own registry.
    """
    found: dict[str, dict[str, str]] = {"downloads": {}, "images": {}}
    errors = []
    for image in images:
        try:
            found["images"][image] = image_digest(mirrored(image, mirror))
        except PinError as error:
            errors.append(str(error))
    for url in downloads:
        try:
            found["downloads"][url] = download_sum(url)
        except PinError as error:
            errors.append(str(error))
    return found, errors


def main(
    words: Sequence[str] | None = None,
    *,
    file: Path = versions.PINS_FILE,
    images: Sequence[str] = versions.IMAGES,
    downloads: Sequence[str] = versions.DOWNLOADS,
) -> int:
    """Write the file, or with `--check` compare it. The status is 1 where something is wrong or differs."""
    parser = argparse.ArgumentParser(prog="make pins", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 if a digest is another or missing"
    )
    parser.add_argument("--mirror", default="", help="a registry host[/path] that is asked for every image")
    options = parser.parse_args(words)
    found, errors = resolve(options.mirror, images, downloads)
    before = json.loads(file.read_text(encoding="utf-8"))
    for group, entries in found.items():
        for name, digest in entries.items():
            held = before[group].get(name)
            word = "same" if held == digest else f"was {held}" if held else "new"
            sys.stdout.write(f"{name} {digest} ({word})\n")
    for error in errors:
        sys.stderr.write(f"make pins: {error}\n")
    if errors:
        sys.stderr.write(f"make pins: {file.name} is as it was\n")
        return 1
    if options.check:
        return int(found != before)
    file.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
