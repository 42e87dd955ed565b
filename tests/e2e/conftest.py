"""Stacks of the real engine, with their state in a file and their project in a copy.

How they run and what they deploy to comes from the environment:

LAB_TEST_PROGRAM        inline (the default): in the tests' own process, which needs no language host; or project: as
                        `pulumi up` runs it, by the language host of a Pulumi that is installed as a whole
LAB_TEST_CONTEXT        the kubeconfig's context; default: the current one
LAB_TEST_REGISTRY       the registry that both Docker and the nodes reach; default: localhost:5001
LAB_TEST_BUILD_NETWORK  the network of the image's build, for example host; default: Docker's own choice
LAB_TEST_BASE_IMAGE     the image to build on; default: the stack's default
LAB_TEST_DIGESTS        false names third-party images by tag alone; default: true
LAB_TEST_GRAFANA        false leaves Grafana out; default: true
LAB_TEST_CHART          Inspektor Gadget's chart, for example the public one; default: a folder chart of the tests' own
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import runpy
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pulumi.automation import ConfigValue, LocalWorkspaceOptions, create_or_select_stack

from infra.settings import SECRETS
from tests.support.recording import PROJECT, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulumi.automation import EngineEvent, Stack, UpResult

CHART = Path(__file__).parent / "chart"
INLINE = os.environ.get("LAB_TEST_PROGRAM", "inline") == "inline"
# A component's state is what its children's is; a provider's changes with its version.
NO_RESOURCES = ("pulumi:pulumi:", "pulumi:providers:", "memleak-lab:")


def close_event_loops() -> None:
    """The SDK makes an event loop for each thread in which a program waits for it, and closes none of them.

    The warnings of it come when they are collected: during another test, or after the last one.
    """
    for each in gc.get_objects():
        if isinstance(each, asyncio.BaseEventLoop) and not each.is_closed() and not each.is_running():
            each.close()


@pytest.fixture(autouse=True)
def loops_of_a_test() -> Iterator[None]:
    """None is left for the next test."""
    yield
    close_event_loops()


@pytest.fixture(scope="session", autouse=True)
def loops_of_the_last_stack() -> Iterator[None]:
    """Nor by the stacks that are destroyed when all tests of a module are done."""
    yield
    close_event_loops()


def switch(name: str, default: str) -> str:
    """A choice of whoever runs the tests."""
    return os.environ.get(f"LAB_TEST_{name}", default)


REGISTRY = switch("REGISTRY", "localhost:5001")
WITH_GRAFANA = switch("GRAFANA", "true") == "true"


def has_the_real_docker_provider() -> bool:
    """Whether Docker's provider is Pulumi's own program, and not a script that stands in for it."""
    home = Path(os.environ.get("PULUMI_HOME", Path.home() / ".pulumi"))
    found = list(home.glob("plugins/resource-docker-v*/pulumi-resource-docker"))
    return not found or all(path.read_bytes()[:4] == b"\x7fELF" for path in found)


def kubectl(*arguments: str, check: bool = True) -> str:
    """Ask the cluster, in the context that the stack uses."""
    context = ["--context", chosen] if (chosen := switch("CONTEXT", "")) else []
    done = subprocess.run(["kubectl", *context, *arguments], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout


class Changes:
    """What an update did, from the engine's own events: whatever was not left as it was."""

    def __init__(self) -> None:
        self.steps: set[tuple[str, str]] = set()

    def __call__(self, event: EngineEvent) -> None:
        """Note one event."""
        if event.resource_pre_event:
            step = event.resource_pre_event.metadata
            if step.op.value not in {"same", "read", "refresh"} and not step.type.startswith(NO_RESOURCES):
                kind, name = step.urn.split("::")[-2].split("$")[-1], step.urn.split("::")[-1]
                self.steps.add((step.op.value, f"{kind.rpartition(':')[2]} {name}"))

    @property
    def touched(self) -> set[str]:
        """Kinds and names."""
        return {name for _, name in self.steps}


@dataclass(frozen=True)
class Life:
    """A stack, and the folder where its state's files are."""

    stack: Stack
    state: Path
    said: list[str]

    def configure(self, **values: object) -> None:
        """Set keys of the stack, as `pulumi config set` does; None removes one."""
        for key, value in values.items():
            if value is None:
                self.stack.remove_config(key)
            else:
                self.stack.set_config(key, ConfigValue(str(value), secret=key in SECRETS))

    def up(self, **options: Any) -> Changes:  # noqa: ANN401 - as the Automation API takes them
        """Update; what changed."""
        changes = Changes()
        self.said.clear()
        self.result(on_event=changes, on_output=self.said.append, **options)
        return changes

    def result(self, **options: Any) -> UpResult:  # noqa: ANN401 - as the Automation API takes them
        """Update; what the engine reports."""
        return self.stack.up(color="never", **options)

    def resources(self) -> list[dict[str, Any]]:
        """What the state holds."""
        return list((self.stack.export_stack().deployment or {}).get("resources") or [])

    def urn(self, type_: str) -> str:
        """The URN of the one resource of a type."""
        (found,) = [one["urn"] for one in self.resources() if one["type"] == type_]
        return str(found)

    def state_files(self) -> bytes:
        """Everything that the backend has written, as it stands there."""
        return b"\n".join(path.read_bytes() for path in self.state.rglob("*") if path.is_file())


@contextlib.contextmanager
def living(work: Path, name: str, settings: dict[str, str]) -> Iterator[Life]:
    """A stack that is destroyed and removed at the end, however the tests went. An empty setting keeps the default."""
    project, state = work / "project", work / "state"
    state.mkdir()
    unneeded = shutil.ignore_patterns(".venv*", ".git", "build", "__pycache__", ".*_cache", "Pulumi.*.yaml")
    shutil.copytree(ROOT, project, ignore=unneeded)
    environment = {
        "PULUMI_BACKEND_URL": state.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }

    def declare() -> None:
        runpy.run_path(str(project / "__main__.py"), run_name="__main__")

    options = LocalWorkspaceOptions(env_vars=environment, work_dir=str(project))
    with contextlib.ExitStack() as entered:
        if INLINE:
            # The program runs in its folder, as the engine runs it.
            entered.enter_context(contextlib.chdir(project))
            stack = create_or_select_stack(
                name, project_name=PROJECT["name"], program=declare, work_dir=str(project), opts=options
            )
        else:
            # The project file names this folder for the program's interpreter.
            (project / ".venv").symlink_to(sys.prefix)
            stack = create_or_select_stack(name, work_dir=str(project), opts=options)
        life = Life(stack, state, [])
        try:
            life.configure(**{key: value for key, value in settings.items() if value})
            yield life
        finally:
            stack.destroy(remove=True)
