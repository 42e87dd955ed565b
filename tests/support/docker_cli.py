"""Docker by its own command, and containers run as the program declares them."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_SECONDS = 60.0


def docker(*arguments: str, check: bool = True, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Docker's command and fail with what it said."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, cwd=cwd)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done


def inspect(name: str, kind: str = "container") -> dict[str, Any]:
    """What Docker knows about a container or an image."""
    (found,) = json.loads(docker(kind, "inspect", name).stdout)
    return dict(found)


@contextlib.contextmanager
def running(image: str, *options: str, command: tuple[str, ...] = ()) -> Iterator[str]:
    """A container, by its id, that is gone afterwards."""
    identity = docker("run", "--detach", *options, image, *command).stdout.strip()
    try:
        yield identity
    finally:
        docker("rm", "--force", "--volumes", identity)


def published(container: str, port: int) -> str:
    """The base URL at which a container's published port answers on this machine."""
    return f"http://{docker('port', container, str(port)).stdout.splitlines()[0]}"


def answer(url: str, seconds: float = PATIENCE_SECONDS, *, until: Callable[[str], bool] = lambda _: True) -> str:
    """The first answer of status 200 that ``until`` accepts."""
    deadline = time.monotonic() + seconds
    last = "nothing"
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                last = str(response.read(), "utf-8")
            if until(last):
                return last
        except (OSError, urllib.error.URLError) as error:
            last = str(error)
        time.sleep(0.05)
    raise AssertionError(f"{url} did not answer as expected in {seconds:g} s; last: {last[:2000]}")


def options_of(container: dict[str, Any], network: str, name: str) -> list[str]:
    """The options of `docker run` that make a container as the program declares it, but for fixed host ports."""
    (place,) = container["networksAdvanced"]
    options = ["--name", name, "--network", network]
    options += [f"--network-alias={alias}" for alias in place["aliases"]]
    options += [f"--env={variable}" for variable in container.get("envs", [])]
    options += [f"--label={one['label']}={one['value']}" for one in container["labels"]]
    options += [f"--publish={one['ip']}::{one['internal']}" for one in container.get("ports", [])]
    options += [f"--tmpfs={folder}:{flags}" for folder, flags in container.get("tmpfs", {}).items()]
    options += [
        f"--mount=type={one['type']},source={one['source']},target={one['target']},readonly"
        for one in container.get("mounts", [])
    ]
    options += [f"--cap-drop={one}" for one in container["capabilities"]["drops"]]
    options += [f"--security-opt={one}" for one in container["securityOpts"]]
    options += [f"--memory={container['memory']}m", f"--memory-swap={container['memorySwap']}m"]
    options += ["--read-only"] if container["readOnly"] else []
    options += [f"--restart={container['restart']}"]
    options += _health_options(container.get("healthcheck", {}))
    options += ["--user", container["user"]]
    if "entrypoints" in container:
        options += ["--entrypoint", container["entrypoints"][0]]
    return options


def command_of(container: dict[str, Any]) -> tuple[str, ...]:
    """What comes after the image's name."""
    return (*container.get("entrypoints", [])[1:], *container.get("command", []))


def _health_options(check: dict[str, Any]) -> list[str]:
    """Docker's options for a container's own health check; none: the image's."""
    if not check:
        return []
    kind, *words = check["tests"]
    if kind == "NONE":
        return ["--no-healthcheck"]
    limits = [f"--health-{name}={check[name]}" for name in ("interval", "timeout", "retries")]
    limits += [f"--health-start-period={check['startPeriod']}"]
    return [f"--health-cmd={shlex.join(words)}", *limits]
