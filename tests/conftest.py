"""What a test needs is its marker: where that is missing the test skips, or fails where LAB_TEST_REQUIRE names it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import missing_browser
from tests.support.every_call import compile_every_call
from tests.support.ports import free_port
from tests.support.turns import turn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path


# A shell without job control makes what it starts in the background deaf to Ctrl-C, and nohup to a lost terminal: that
# is handed down to every program that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _root() -> str:
    return "" if os.geteuid() == 0 else "this is not root"


def _ebpf() -> str:
    if reason := _root():
        return reason
    try:
        from heap_trace import HeapTrace  # noqa: PLC0415 - a machine without the tracer runs the other tests

        with HeapTrace(max_blocks=1, max_stacks=1):
            return ""
    except (ImportError, OSError) as error:
        return f"the kernel does not take eBPF programs: {error}"


def _succeeds(*command: str) -> str:
    if not shutil.which(command[0]):
        return f"{command[0]} is not installed"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return f"{' '.join(command)} does not answer"
    return "" if done.returncode == 0 else f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}"


def _cluster() -> str:
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG is not set"
    return _succeeds("kubectl", "get", "--raw", "/readyz")


MISSING: dict[str, Callable[[], str]] = {
    "root": _root,
    "ebpf": _ebpf,
    "docker": lambda: _succeeds("docker", "info"),
    "cluster": _cluster,
    "pulumi": lambda: _succeeds("pulumi", "version"),
    "browser": missing_browser,
}


@cache
def missing(marker: str) -> str:
    """Why what a marker stands for is not to be had here: "" where it is."""
    return MISSING[marker]()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the test's own time limit begins after the wait
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Traces may go on side by side, but for those of tests that are alone."""
    if not item.get_closest_marker("ebpf"):
        return (yield)
    with turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = os.environ.get("LAB_TEST_REQUIRE", "").replace(",", " ").split()
    for marker in MISSING:
        if item.get_closest_marker(marker) and (reason := missing(marker)):
            if marker in required:
                pytest.fail(f"{marker} is required here: {reason}", pytrace=False)
            pytest.skip(f"needs {marker}: {reason}")


@pytest.fixture(scope="session")
def every_call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that calls every function of the allocator."""
    return compile_every_call(tmp_path_factory.mktemp("every_call"))


@pytest.fixture
def unused_tcp_port() -> int:
    return free_port()
