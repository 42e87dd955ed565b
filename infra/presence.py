"""Whether what an earlier update left is still there.

A cluster or a registry that was made anew has the name and the address of the old one, and Pulumi's state still holds
what the old one had. Docker's image resource never asks the registry again, and without `--refresh` nothing asks the
cluster.
"""

from __future__ import annotations

import asyncio
import http
import http.client
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pulumi

if TYPE_CHECKING:
    from collections.abc import Sequence

ASK_SECONDS: Final = 3.0
PUSH_SECONDS: Final = 600.0
# Every form in which a registry may keep an image; without them it answers that there is none.
_MANIFESTS: Final = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)


def registry_has(repository: str, digest: str, seconds: float = ASK_SECONDS) -> bool | None:
    """Whether a registry without TLS has an image. None: nothing answers at that address.

    ``repository`` is ``host[:port]/path``, ``digest`` is ``sha256:...``. A registry that refuses the question, for want
    of a login for example, gives no reason to doubt.
    """
    host, _, path = repository.partition("/")
    connection = http.client.HTTPConnection(host, timeout=seconds)
    try:
        connection.request("HEAD", f"/v2/{path}/manifests/{digest}", headers={"Accept": _MANIFESTS})
        return connection.getresponse().status != http.HTTPStatus.NOT_FOUND
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def run(words: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a command; one that is not there, or takes too long, has status 127 or 124 and says so."""
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds)
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 127, "", f"{words[0]}: not installed")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"{words[0]}: no answer in {seconds:g} s")


@dataclass(frozen=True)
class Pushed:
    """An image that was pushed: its name with the tag, its digest in the registry, and its resource's URN."""

    name: str
    digest: str
    urn: str

    @property
    def repository(self) -> str:
        """The name without the tag."""
        return self.name.rpartition(":")[0]


async def keep_pushed(image: Pushed, *, preview: bool) -> None:
    """Push the image again if the registry lost it; a preview says that this will happen.

    Raises:
        RunError: Docker cannot push the very same image; the text has the line to type.
    """
    held = await asyncio.to_thread(registry_has, image.repository, image.digest)
    if held is None:
        pulumi.warn(
            f"the registry of {image.repository} does not answer on this machine. If nodes cannot pull from it either: "
            f"make kind    # or start the registry that localRegistry names"
        )
    if held is not False:
        return
    if preview:
        pulumi.warn(f"the registry no longer has {image.repository}@{image.digest}: `pulumi up` pushes it again")
        return
    done = await asyncio.to_thread(run, ["docker", "push", image.name], PUSH_SECONDS)
    held = await asyncio.to_thread(registry_has, image.repository, image.digest)
    if done.returncode == 0 and held:
        pulumi.info(f"the registry had lost {image.repository}@{image.digest}: it is pushed again")
        return
    said = done.stderr.strip().splitlines()[-1:] or ["the image that Docker has is another one"]
    raise pulumi.RunError(
        f"the registry no longer has {image.repository}@{image.digest}, and Docker cannot push it again ({said[0]}). "
        f"Build it anew:\n    pulumi up --refresh --replace '{image.urn}'"
    )


async def require_in_daemon(name: str, urn: str) -> None:
    """Check that Docker still has an image that was built and not pushed.

    Raises:
        RunError: it was removed; the text has the line to type.
    """
    done = await asyncio.to_thread(run, ["docker", "image", "inspect", name], ASK_SECONDS * 10)
    if done.returncode == 1 and "no such" in done.stderr.lower():
        raise pulumi.RunError(
            f"Docker no longer has the image {name}, which this stack built. Build it anew:\n"
            f"    pulumi up --refresh --replace '{urn}'"
        )


async def require_same_cluster(kubectl: Sequence[str], namespace: str, uid: str) -> None:
    """Check that the namespace of the state is the one in the cluster.

    ``kubectl`` is the client's command with its context. Where it gets no answer nothing is known, and nothing is said.

    Raises:
        RunError: the cluster has no such namespace, or another one of that name; the text has the line to type.
    """
    words = [*kubectl, "get", "namespace", namespace, "--output=jsonpath={.metadata.uid}", "--request-timeout=5s"]
    done = await asyncio.to_thread(run, words, ASK_SECONDS * 5)
    missing = done.returncode != 0 and "(NotFound)" in done.stderr
    if missing or (done.returncode == 0 and done.stdout.strip() != uid):
        raise pulumi.RunError(
            f"namespace {namespace} is not the one that this stack made: was the cluster made anew? Bring everything "
            f"back:\n    pulumi up --refresh"
        )
