"""The lab's service as the tools meet it: here or in a container, held still until a tool's probes are in place."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.lab.child import PROJECT, Child
from diagnosis.lab.ledger import LedgerClient
from diagnosis.lab.service_env import service_environ
from diagnosis.lab.unprivileged import choose_user
from diagnosis.target.process import PROC
from diagnosis.target.targets import process_of_container

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# An hour's story in a minute: half a second to hold the service still before it leaks.
SPEED = 60.0
# More than the 64 MiB of one heap of a thread's arena: past it, libc maps another in the middle of a malloc.
CAP_BYTES = 96 << 20

IMAGE = "memleak-demo:guide"
LISTENS_SECONDS = 20.0
STOPS_SECONDS = 5.0
FULL_SECONDS = 60.0
POLL_SECONDS = 0.05
STOP_POLLS = 10
FUTEX = {"x86_64": "202", "aarch64": "98"}.get(platform.machine(), "")


@dataclass(frozen=True)
class Scene:
    """Where the service runs, the size of the blocks that it leaks, and how many bytes of them."""

    container: bool
    chunk_bytes: int
    cap_bytes: int = CAP_BYTES

    @property
    def settings(self) -> dict[str, str]:
        """The service's environment variables."""
        return service_environ(speed=SPEED, chunk_bytes=self.chunk_bytes, cap_bytes=self.cap_bytes)

    def __str__(self) -> str:
        return f"{self.chunk_bytes >> 10} KiB blocks {'in a container' if self.container else 'on the host'}"


@dataclass(frozen=True)
class Running:
    """The service's process as this machine numbers it, and HOST:PORT of what it serves."""

    pid: int
    http: str
    metrics: str
    ledger: str


class HeldService:
    """A running service that is stopped by a signal, mostly before its leak begins, until `release`."""

    def __init__(self, running: Running, cap_bytes: int) -> None:
        self.pid = pid = running.pid
        self.running = running
        self._cap_bytes = cap_bytes
        self._held_bytes = 0
        self._ledger = LedgerClient(f"http://{running.ledger}/ledger")
        until = time.monotonic() + STOPS_SECONDS
        os.kill(pid, signal.SIGSTOP)
        while not _stopped_between_refreshes(pid):
            if time.monotonic() > until:
                raise LabError(f"pid {pid} does not stop between two refreshes", "is the machine too busy?")
            os.kill(pid, signal.SIGCONT)
            time.sleep(POLL_SECONDS)
            os.kill(pid, signal.SIGSTOP)
        self._held_ns = time.monotonic_ns()

    def release(self) -> None:
        """Let the service run. It first makes up for the time that it was held.

        Raises:
            LabError: the ledger does not know any more what had leaked when it was held.
        """
        os.kill(self.pid, signal.SIGCONT)
        for idle in self._ledger.read().idle_intervals:
            if idle.since_ns <= self._held_ns <= idle.until_ns:
                self._held_bytes = idle.insert_bytes
                return
        raise LabError("the ledger does not reach back to the moment at which the service was held", "try again")

    def wait_until_full(self) -> int:
        """Wait until the leak has come to its cap, where it stays; returns the bytes leaked since `release`.

        Raises:
            LabError: it does not come to it.
        """
        until = time.monotonic() + FULL_SECONDS
        while time.monotonic() < until:
            if self._ledger.read().bytes_live == self._cap_bytes:
                return self._cap_bytes - self._held_bytes
            time.sleep(POLL_SECONDS)
        raise LabError(f"the leak did not come to {self._cap_bytes:,} bytes", "is the machine too busy?")

    def close(self) -> None:
        """Let it run, so that it can end."""
        self._ledger.close()
        os.kill(self.pid, signal.SIGCONT)


def _stopped_between_refreshes(pid: int) -> bool:
    """Whether the process comes to a stop with the refreshing thread asleep; it is given a moment to."""
    tasks = list((PROC / str(pid) / "task").iterdir())
    for _ in range(STOP_POLLS):
        if all((task / "stat").read_text().rpartition(")")[2].split()[0] in "tT" for task in tasks):
            break
        time.sleep(POLL_SECONDS / STOP_POLLS)
    # Waiting for its next deadline it is in futex(); in a refresh it is in another call, or in none.
    refreshing = next((task for task in tasks if (task / "comm").read_text() == "cache-refresh\n"), None)
    return refreshing is not None and (refreshing / "syscall").read_text().split()[0] == FUTEX


@contextmanager
def held_service(scene: Scene) -> Iterator[HeldService]:
    """The service of a scene, held. It is gone afterwards.

    Raises:
        LabError: it does not start, or cannot be held in time.
    """
    with _container(scene) if scene.container else _child(scene) as running:
        held = HeldService(running, scene.cap_bytes)
        try:
            yield held
        finally:
            held.close()


@contextmanager
def _child(scene: Scene) -> Iterator[Running]:
    with Child("service", scene.settings, choose_user(os.environ, os.geteuid())) as child:
        yield _running(child.pid, child.first_event())


@contextmanager
def _container(scene: Scene) -> Iterator[Running]:
    variables = [word for pair in scene.settings.items() for word in ("--env", "=".join(pair))]
    # On the host's network, so that the ledger's loopback is this one; the other namespaces are the container's own.
    container = docker("run", "--detach", "--read-only", "--network", "host", *variables, IMAGE).strip()
    try:
        event = _first_event(container)
        yield _running(process_of_container(container).pid, event)
    finally:
        docker("rm", "--force", container)


def _running(pid: int, event: Mapping[str, object]) -> Running:
    return Running(pid, str(event["http"]), str(event["metrics"]), str(event["ledger"]))


def _first_event(container: str) -> dict[str, object]:
    until = time.monotonic() + LISTENS_SECONDS
    while time.monotonic() < until:
        if lines := docker("logs", container).splitlines():
            event: dict[str, object] = json.loads(lines[0])
            return event
        time.sleep(POLL_SECONDS)
    raise LabError(f"the container {container[:12]} does not listen after {LISTENS_SECONDS:g} s", "docker logs it")


def build_image() -> None:
    """Build the service's image under a name of the harness's own.

    Raises:
        LabError: Docker is not there, or the build failed.
    """
    docker("build", "--quiet", "--network", "host", "--tag", IMAGE, "--file", "service/Dockerfile", ".")


def docker(*arguments: str) -> str:
    """The output of a docker command.

    Raises:
        LabError: it failed; the text is its own.
    """
    try:
        done = subprocess.run(["docker", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LabError("docker is not installed", "see docs/INSTALL.md") from error
    if done.returncode:
        raise LabError(f"docker {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout
