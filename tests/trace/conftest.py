"""Programs compiled once, and both of the tracer's ways into the kernel."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.trace.pythons import VERSIONS, distribution_interpreter, interpreter
from tests.trace.tracing import Closing, Target, compile_program, count

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.trace.tracing import Counted


class Build(Protocol):
    def __call__(self, source: str, *flags: str, compiler: str = "", name: str = "") -> Path: ...


class Trace(Protocol):
    def __call__(self, source: str, *arguments: str, **options: int) -> Counted: ...


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`build("blocks.c")`: the program. Asked twice, it is compiled once."""

    @functools.cache
    def compiled(source: str, *flags: str, compiler: str = "", name: str = "") -> Path:
        return compile_program(tmp_path_factory.mktemp("program"), source, *flags, compiler=compiler, name=name)

    return compiled


@pytest.fixture(scope="session")
def closing() -> Iterator[Closing]:
    closing = Closing()
    yield closing
    closing.wait()


@pytest.fixture(params=[True, False], ids=["session", "two-programs"])
def allow_session(request: pytest.FixtureRequest) -> bool:
    """One eBPF program for both ends of a call, as from kernel 6.13 on, or two, as before."""
    return bool(request.param)


@pytest.fixture
def trace(build: Build, closing: Closing, allow_session: bool) -> Trace:
    """`trace("blocks.c", min_bytes=16)`: run it from its first stop to its second, and count."""

    def run(source: str, *arguments: str, **options: int) -> Counted:
        with (
            Target([build(source), *arguments]) as target,
            closing.tracing(target, allow_session=allow_session, **options) as tracer,
        ):
            target.go()
            return count(tracer)

    return run


@pytest.fixture(params=("distribution", *VERSIONS))
def python(request: pytest.FixtureRequest) -> str:
    """The distribution's interpreter, and one of each version."""
    found = distribution_interpreter() if request.param == "distribution" else interpreter(request.param)
    if not found:
        pytest.skip(f"python ({request.param}) is not installed, is of another version, or has no ctypes")
    return found
