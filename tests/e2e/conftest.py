"""A stack of the real engine, with its state in a file and its project in a copy.

What it deploys to comes from the environment:

LAB_TEST_TARGET         kubernetes (the default), or docker
LAB_TEST_CONTEXT        the kubeconfig's context; default: the current one
LAB_TEST_REGISTRY       the registry that both Docker and the nodes reach; default: localhost:5001
LAB_TEST_BUILD_NETWORK  the network of the image's build, for example host; default: Docker's own choice
LAB_TEST_BASE_IMAGE     the image to build on; default: the stack's default
LAB_TEST_GRAFANA        false leaves Grafana out; default: true
LAB_TEST_GADGET         trace_malloc, memleak or none; default: trace_malloc
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from pulumi.automation import ConfigValue, LocalWorkspaceOptions, create_or_select_stack

from tests.support.recording import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pulumi.automation import EngineEvent, Stack

NAMESPACE = "memleak-lab-e2e"
STACK = "e2e"


def switch(name: str, default: str) -> str:
    """A choice of whoever runs the tests."""
    return os.environ.get(f"LAB_TEST_{name}", default)


def settings() -> dict[str, str]:
    """The stack's configuration; an unset choice keeps the project's default."""
    chosen = {
        "namespace": NAMESPACE,
        "target": switch("TARGET", "kubernetes"),
        "context": switch("CONTEXT", ""),
        "localRegistry": switch("REGISTRY", "localhost:5001"),
        "buildNetwork": switch("BUILD_NETWORK", ""),
        "baseImage": switch("BASE_IMAGE", ""),
        "grafana": switch("GRAFANA", "true"),
        "gadget": switch("GADGET", "trace_malloc"),
        "capMiB": "300",
    }
    return {key: value for key, value in chosen.items() if value}


def configure(stack: Stack, values: Mapping[str, str]) -> None:
    """Set keys of the stack, as `pulumi config set` does."""
    stack.set_all_config({key: ConfigValue(value) for key, value in values.items()})


class Changes:
    """What an update did, from the engine's own events: URNs of whatever was not left as it was."""

    def __init__(self) -> None:
        self.steps: set[tuple[str, str]] = set()

    def __call__(self, event: EngineEvent) -> None:
        """Note one event."""
        if event.resource_pre_event:
            step = event.resource_pre_event.metadata
            if step.op.value != "same" and not step.type.startswith(("pulumi:pulumi:", "memleak-lab:")):
                kind, name = step.urn.split("::")[-2].split("$")[-1], step.urn.split("::")[-1]
                self.steps.add((step.op.value, f"{kind.rpartition(':')[2]} {name}"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that is destroyed and removed at the end, however the tests went."""
    work = tmp_path_factory.mktemp("e2e")
    project, state = work / "project", work / "state"
    state.mkdir()
    unneeded = shutil.ignore_patterns(".venv*", ".git", "build", "__pycache__", ".*_cache", "Pulumi.*.yaml")
    shutil.copytree(ROOT, project, ignore=unneeded)
    # The project file names this folder for the program's interpreter.
    (project / ".venv").symlink_to(sys.prefix)
    environment = {
        "PULUMI_BACKEND_URL": state.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    stack = create_or_select_stack(STACK, work_dir=str(project), opts=LocalWorkspaceOptions(env_vars=environment))
    try:
        configure(stack, settings())
        yield stack
    finally:
        stack.destroy(remove=True)
