"""The real Docker and a real cluster, for the tests that need them.

What differs from one machine to the next comes from the environment:

LAB_TEST_BUILD_NETWORK  the network of the image's build, for example host; default: Docker's own choice
LAB_TEST_BASE_IMAGE     the image to build on; default: the stack's default
LAB_TEST_REGISTRY       the registry that both Docker and the cluster's nodes reach; default: localhost:5001
KUBECONFIG              the cluster; its objects go into a namespace of their own and are deleted at the end
"""

from __future__ import annotations

import os
import platform as host
from typing import TYPE_CHECKING

import pytest

from infra.context import content_tag
from infra.settings import DEFAULTS
from tests.support.docker_cli import docker
from tests.support.recording import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE_IMAGE = os.environ.get("LAB_TEST_BASE_IMAGE", DEFAULTS["baseImage"])
HERE = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
BUILD_NETWORK = os.environ.get("LAB_TEST_BUILD_NETWORK", "")


@pytest.fixture(scope="session")
def base_image() -> str:
    """The image that the lab's is built on, in the daemon."""
    if docker("image", "inspect", BASE_IMAGE, check=False).returncode:
        docker("pull", "--quiet", BASE_IMAGE)
    return BASE_IMAGE


@pytest.fixture(scope="session")
def image(base_image: str) -> str:
    """The lab's image, built as the program has it built."""
    platform = HERE[host.machine()]
    tag = content_tag(ROOT, base_image, platform)
    name = f"memleak-demo:{tag}"
    network = ["--network", BUILD_NETWORK] if BUILD_NETWORK else []
    arguments = ["--platform", platform, "--build-arg", f"BASE_IMAGE={base_image}", "--build-arg", f"CONTENT={tag}"]
    docker("build", "--quiet", *network, *arguments, "--file", "service/Dockerfile", "--tag", name, ".", cwd=ROOT)
    return name


@pytest.fixture
def network() -> Iterator[str]:
    """A Docker network for one test."""
    name = f"memleak-lab-test-{os.getpid()}"
    docker("network", "create", name)
    try:
        yield name
    finally:
        docker("network", "rm", name)
