"""Runs the real program without an engine, and keeps what it asked the engine for."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import json
import os
import runpy
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pulumi
import yaml
from google.protobuf import json_format  # type: ignore[import-untyped]
from pulumi.runtime import mocks, rpc
from pulumi.runtime.proto import engine_pb2
from pulumi.runtime.stack import run_in_stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.protobuf import empty_pb2
    from pulumi.runtime.proto import resource_pb2

ROOT = Path(__file__).parents[2]
PROJECT = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
SECRET_KEYS = ("registryPassword", "grafanaAdminPassword")
# The signature by which Pulumi marks a secret value on the wire.
SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"


@dataclass(frozen=True)
class Declared:
    """One resource as the program declared it. ``wire`` is its input as sent, with secrets still marked."""

    urn: str
    type: str
    name: str
    custom: bool
    inputs: dict[str, Any]
    wire: dict[str, Any]
    parent: str
    provider: str
    depends_on: tuple[str, ...]
    deleted_with: str
    order: int
    aliases: frozenset[str] = frozenset()

    @property
    def is_kubernetes_object(self) -> bool:
        return self.custom and self.type.startswith("kubernetes:") and "kind" in self.inputs

    @property
    def kind(self) -> str:
        return str(self.inputs.get("kind", ""))

    @property
    def object_name(self) -> str:
        return str(self.inputs["metadata"].get("name", f"{self.name}-1a2b3c4d"))

    @property
    def namespace(self) -> str:
        return str(self.inputs["metadata"].get("namespace", ""))


@dataclass
class Recording:
    """All that one run declared, in order, and what it exported."""

    declared: list[Declared] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    wire_outputs: dict[str, Any] = field(default_factory=dict)
    logged: list[str] = field(default_factory=list)

    @property
    def objects(self) -> list[Declared]:
        return [one for one in self.declared if one.is_kubernetes_object]

    def of_type(self, type_: str) -> list[Declared]:
        return [one for one in self.declared if one.type == type_]

    def of_kind(self, *kinds: str) -> list[Declared]:
        return [one for one in self.objects if one.kind in kinds]

    def the(self, kind: str, name: str) -> Declared:
        (found,) = [one for one in self.of_kind(kind) if one.object_name == name]
        return found

    def by_urn(self, urn: str) -> Declared:
        (found,) = [one for one in self.declared if one.urn == urn]
        return found

    def comparable(self) -> dict[str, Any]:
        """Everything that must be the same in two runs, by URN."""
        resources = {
            one.urn: [one.wire, one.parent, one.provider, sorted(one.depends_on), one.deleted_with]
            for one in self.declared
        }
        return {"resources": resources, "outputs": self.wire_outputs}


class _Cloud(mocks.Mocks):
    """What engine and providers would answer, as far as the program reads it."""

    def __init__(self, digest: str) -> None:
        self._digest = digest

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        state = dict(args.inputs)
        if args.typ.startswith("kubernetes:") and "metadata" in state and "name" not in state["metadata"]:
            # What the provider does for an object without a name of its own.
            state["metadata"] = {**state["metadata"], "name": f"{args.name}-1a2b3c4d"}
        if args.typ == "docker:index/image:Image":
            identity = self._digest or f"sha256:{hashlib.sha256(state['imageName'].encode()).hexdigest()}"
            repository = state["imageName"].rpartition(":")[0]
            state["repoDigest"] = identity if state.get("skipPush") else f"{repository}@{identity}"
        if args.typ == "docker:index/remoteImage:RemoteImage":
            name, _, asked = state["name"].partition("@")
            digest = asked or f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
            state["repoDigest"] = f"{name.rpartition(':')[0]}@{digest}"
        return f"{args.name}-id", state

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[str, Any], None]:
        raise AssertionError(f"the program asked a provider for {args.token}: a preview would need it too")


class _Monitor(mocks.MockMonitor):
    def __init__(self, recording: Recording, digest: str) -> None:
        super().__init__(_Cloud(digest))
        self._recording = recording

    def RegisterResource(  # noqa: N802 - gRPC's name
        self, request: resource_pb2.RegisterResourceRequest
    ) -> resource_pb2.RegisterResourceResponse:
        answer: resource_pb2.RegisterResourceResponse = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        if request.type == "pulumi:pulumi:Stack":
            return answer
        # URNs are unique in a real engine, which fails on the second; the mock monitor would not notice.
        assert answer.urn not in {one.urn for one in self._recording.declared}, f"declared twice: {answer.urn}"
        provider = request.provider or (request.providers[request.type.partition(":")[0]] if not request.custom else "")
        self._recording.declared.append(
            Declared(
                urn=answer.urn,
                type=request.type,
                name=request.name,
                custom=request.custom,
                inputs=_revealed(_whole_numbers(rpc.deserialize_properties(request.object))),
                wire=_whole_numbers(json_format.MessageToDict(request.object)),
                parent=request.parent,
                provider=provider,
                depends_on=tuple(request.dependencies),
                deleted_with=request.deletedWith,
                order=len(self._recording.declared),
                aliases=_aliases(answer.urn, request),
            )
        )
        return answer

    def RegisterResourceOutputs(  # noqa: N802 - gRPC's name
        self, request: resource_pb2.RegisterResourceOutputsRequest
    ) -> empty_pb2.Empty:
        if "pulumi:pulumi:Stack" in request.urn and "$" not in request.urn:
            self._recording.wire_outputs = _whole_numbers(json_format.MessageToDict(request.outputs))
            self._recording.outputs = _revealed(_whole_numbers(rpc.deserialize_properties(request.outputs)))
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]


def _aliases(urn: str, request: resource_pb2.RegisterResourceRequest) -> frozenset[str]:
    """The URNs that the resource had before: an alias says what was different, its name or its whole URN."""
    before, _, name = urn.rpartition("::")
    found = set(request.aliasURNs)
    for alias in request.aliases:
        found.add(alias.urn or f"{before}::{alias.spec.name or name}")
    return frozenset(found)


class _Log(mocks.MockEngine):
    def __init__(self, logged: list[str]) -> None:
        super().__init__(None)
        self._logged = logged

    def Log(self, request: engine_pb2.LogRequest) -> None:  # noqa: N802 - gRPC's name
        if request.severity != engine_pb2.DEBUG:
            self._logged.append(request.message)


def record(
    settings: Mapping[str, object] | None = None,
    *,
    kubeconfig: Path,
    directory: Path,
    preview: bool = False,
    into: Recording | None = None,
    digest: str = "",
) -> Recording:
    """Run the program with these settings of the stack, over the defaults of Pulumi.yaml, as the engine would.

    ``directory`` is the working directory, for what the program writes. ``into``: what is declared before an error ends
    the run is kept there. ``digest``: the image's, as its push would tell. Nothing of a run outlives it: Pulumi keeps
    its state in context variables, and each run has a context of its own.
    """
    values = {key: declared["default"] for key, declared in PROJECT["config"].items()}
    written = {f"{PROJECT['name']}:{key}": _as_engine(value) for key, value in {**values, **(settings or {})}.items()}
    secrets = [f"{PROJECT['name']}:{key}" for key in SECRET_KEYS if (settings or {}).get(key)]
    recording = Recording() if into is None else into

    def main() -> None:
        # The folder, as the engine runs it: that puts it on the module path.
        runpy.run_path(str(ROOT), run_name="__main__")

    def run() -> None:
        with _event_loop() as loop:
            monitor = _Monitor(recording, digest)
            mocks.set_mocks(monitor.mocks, project=PROJECT["name"], stack="test", preview=preview, monitor=monitor)
            pulumi.runtime.settings.SETTINGS.engine = _Log(recording.logged)
            pulumi.runtime.settings.ROOT.set(None)
            pulumi.runtime.set_all_config(written, secrets)
            loop.run_until_complete(run_in_stack(main))

    environ = {"KUBECONFIG": str(kubeconfig), "PATH": os.environ["PATH"], "HOME": str(directory)}
    # What an earlier update left is there: neither a registry nor a daemon of this machine is asked.
    there = (
        mock.patch("infra.presence.registry_has", return_value=True),
        mock.patch("infra.presence.run", return_value=subprocess.CompletedProcess([], 0, "", "")),
    )
    with mock.patch.dict(os.environ, environ, clear=True), contextlib.chdir(directory), there[0], there[1]:
        contextvars.copy_context().run(run)
    return recording


@contextlib.contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop, and one worker thread with a loop of its own, where the mock monitor answers: all closed at the end."""
    loop, workers_loop = asyncio.new_event_loop(), asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = ThreadPoolExecutor(1, initializer=asyncio.set_event_loop, initargs=(workers_loop,))
    loop.set_default_executor(worker)
    try:
        yield loop
    finally:
        worker.shutdown()
        workers_loop.close()
        asyncio.set_event_loop(None)
        loop.close()


def _as_engine(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _whole_numbers(value: Any) -> Any:  # noqa: ANN401 - any JSON value, and the same of its kind
    """Numbers as the API server will see them: a mock carries every number as a float."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return value


def _revealed(value: Any) -> Any:  # noqa: ANN401 - any JSON value, and the same of its kind
    """Values without the envelopes of secrets: what the provider gets to see."""
    if isinstance(value, dict):
        if SECRET_SIGNATURE in value.values():
            return _revealed(value["value"])
        return {key: _revealed(item) for key, item in value.items()}
    return [_revealed(item) for item in value] if isinstance(value, list) else value


def text_of(value: object) -> str:
    """Everything in a value, for searches."""
    return json.dumps(value, sort_keys=True)
