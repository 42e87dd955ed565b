"""The program's objects in the cluster of KUBECONFIG: recorded under mocks, and handed to kubectl as they are.

This is no second engine. kubectl orders, validates, waits and says what went wrong; what is here is the list of files.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.settings import DEFAULTS
from tests.support.docker_cli import answer, docker, inspect
from tests.support.recording import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.recording import Recording

REGISTRY = os.environ.get("LAB_TEST_REGISTRY", DEFAULTS["localRegistry"])
READY_SECONDS = 120
# Namespaces first and cluster roles next; the API server takes the rest in any order.
APPLY_FIRST = ("Namespace", "ClusterRole")
STRICTLY = ("apply", "--server-side", "--validate=strict", "--warnings-as-errors", "--filename=-")
FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"


def kubectl(*arguments: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl against the cluster of KUBECONFIG and fail with what it said."""
    command = ["kubectl", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, input=stdin)
    assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done


def items(kind: str, *arguments: str) -> list[dict[str, Any]]:
    """Objects of a kind, as the API server has them."""
    return list(json.loads(kubectl("get", kind, *arguments, "--output=json").stdout)["items"])


def parse_time(stamp: str) -> float:
    """A Kubernetes time in seconds since 1970. Its fraction has as many digits as it takes; Python reads six."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


@dataclass(frozen=True)
class Pushed:
    """The lab's image in the registry: its name there, and the digest that nodes pull it by."""

    name: str
    digest: str


def push(image: str, repository: str) -> Pushed:
    """Push an image of the daemon under another repository's name, with the same tag."""
    pushed = f"{REGISTRY}/{repository}:{image.rpartition(':')[2]}"
    docker("tag", image, pushed)
    docker("push", "--quiet", pushed)
    digests = inspect(pushed, "image")["RepoDigests"]
    (digest,) = {one.partition("@")[2] for one in digests if one.startswith(f"{REGISTRY}/{repository}@")}
    return Pushed(pushed, digest)


def remove_from_node(node: str, reference: str) -> None:
    """Remove an image from a node: inside kind's container of that name, or from this machine's containerd."""
    on_kind = not docker("container", "inspect", node, check=False).returncode
    command = ["docker", "exec", node, "crictl", "rmi"] if on_kind else ["ctr", "--namespace", "k8s.io", "images", "rm"]
    done = subprocess.run([*command, reference], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)} {reference}\n{done.stdout}{done.stderr}"


@dataclass(frozen=True)
class Lab:
    """What the program declares for this cluster, as text for kubectl, without the Helm release."""

    namespace: str
    recording: Recording

    @property
    def first(self) -> str:
        """Namespaces and cluster roles."""
        return self._documents(first=True)

    @property
    def rest(self) -> str:
        """All that goes into them or refers to them."""
        return self._documents(first=False)

    def _documents(self, *, first: bool) -> str:
        chosen = [one for one in self.recording.objects if (one.kind in APPLY_FIRST) is first]
        return "".join(f"---\n{json.dumps(one.inputs)}\n" for one in chosen)

    def apply(self) -> None:
        """Apply everything: no warning, no unknown field."""
        kubectl(*STRICTLY, stdin=self.first)
        kubectl(*STRICTLY, stdin=self.rest)

    def wait(self) -> None:
        """Wait until every Deployment has rolled out."""
        for one in self.recording.of_kind("Deployment"):
            self.kubectl("rollout", "status", f"deployment/{one.object_name}", f"--timeout={READY_SECONDS}s")

    def delete(self) -> None:
        """Delete what `pulumi destroy` deletes, and wait until it is gone; the rest goes with the namespaces."""
        clusterwide = [one.inputs for one in self.recording.of_kind("Namespace", "ClusterRole", "ClusterRoleBinding")]
        documents = "".join(f"---\n{json.dumps(one)}\n" for one in clusterwide)
        kubectl("delete", "--ignore-not-found", "--filename=-", stdin=documents)

    def kubectl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl in the lab's namespace."""
        return kubectl("--namespace", self.namespace, *arguments, check=check)

    def items(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """Objects of a kind in the lab's namespace."""
        return items(kind, "--namespace", self.namespace, *arguments)

    def pods(self, part: str) -> list[dict[str, Any]]:
        """The pods of one part that are not on their way out."""
        found = self.items("pods", "--selector", f"app.kubernetes.io/name={part}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def pod(self, part: str) -> dict[str, Any]:
        """The one pod of a part."""
        (pod,) = self.pods(part)
        return pod

    def fetch_inside(self, url: str) -> str:
        """What a URL answers from the visitors' pod."""
        return self.kubectl("exec", "deployment/visitors", "--", "python", "-c", FETCH, url).stdout

    @contextlib.contextmanager
    def forwarded(self, output: str) -> Iterator[str]:
        """A base URL, by the program's own port-forward command, but to a port that is free."""
        with forwarded(self.recording.outputs["port_forward_commands"][output]) as url:
            yield url

    def ledger(self, pod: str = "", wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The leaker's ledger, or that of one pod where two are there for a while, once it is as wanted."""
        command = self.recording.outputs["port_forward_commands"]["ledger"]
        if pod:
            command = command.replace(" deployment/leaker ", f" pod/{pod} ")
        with forwarded(command) as url:
            return dict(json.loads(answer(f"{url}/ledger", until=lambda text: wanted(json.loads(text)))))


@contextlib.contextmanager
def forwarded(command: str) -> Iterator[str]:
    """A base URL while a port-forward command runs, to a port that is free."""
    command = re.sub(r" \d+:(\d+)$", r" :\1", command)
    with subprocess.Popen(["sh", "-c", f"exec {command}"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            found = re.match(r"Forwarding from (127\.0\.0\.1:\d+)", line)
            assert found, f"{command}: {line}"
            yield f"http://{found.group(1)}"
        finally:
            process.terminate()


def recorded(directory: Path, pushed: Pushed, base_image: str, namespace: str, **settings: object) -> Lab:
    """What the program declares for the cluster of KUBECONFIG with these settings."""
    here = {
        "environment": "generic",
        "localRegistry": REGISTRY,
        "baseImage": base_image,
        "imageName": pushed.name.removeprefix(f"{REGISTRY}/").partition(":")[0],
        "namespace": namespace,
        "gadget": "none",
        # A node without a way out was given its images by their tags.
        "digests": False,
        **settings,
    }
    kubeconfig = Path(os.environ["KUBECONFIG"])
    return Lab(namespace, record(here, kubeconfig=kubeconfig, directory=directory, digest=pushed.digest))


@contextlib.contextmanager
def deployed(lab: Lab) -> Iterator[Lab]:
    """The lab, up and ready; gone afterwards. What an interrupted run has left goes first."""
    lab.delete()
    try:
        lab.apply()
        lab.wait()
        yield lab
    finally:
        lab.delete()
