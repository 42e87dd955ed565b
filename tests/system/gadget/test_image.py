"""The gadget's image, and Inspektor Gadget itself at work with it."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import socket
import subprocess
import threading
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from comparison.guide import ig
from comparison.guide.service import Scene
from comparison.tools.gadget import cannot_build
from diagnosis.lab.child import PROJECT
from grafana import vocabulary
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.ebpf, pytest.mark.skipif(bool(ig.missing()), reason=ig.missing() or "ig")]

MIB = 1 << 20
REGISTRY = ("localhost", 5001)
# An image that was built elsewhere and exported, for a machine that has not what a build needs.
EXPORTED = os.environ.get("LAB_TEST_GADGET_IMAGE", "")
# How much slower than a processor of today this machine is, where it is an emulated one.
SLOWNESS = float(os.environ.get("LAB_TEST_SLOWNESS", "1"))
SIZES = pytest.mark.parametrize("chunk_bytes", [64 << 10, MIB])


def scene(chunk_bytes: int) -> Scene:
    return Scene(container=False, chunk_bytes=chunk_bytes, cap_bytes=8 * MIB)


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    if EXPORTED:
        subprocess.run(["ig", "image", "import", EXPORTED], check=True, capture_output=True)
        return
    if reason := cannot_build():
        pytest.skip(f"the gadget cannot be built: {reason}")
    ig.build_image()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that are long enough on this machine."""
    limits = (
        "diagnosis.lab.child.START_SECONDS", "comparison.guide.service.FULL_SECONDS",
        "comparison.guide.ig.LOADS_SECONDS", "comparison.guide.ig.READS_SECONDS",
        "comparison.tools.session.ATTACH_SECONDS", "comparison.tools.session.END_SECONDS",
        # Between one probe and the next; the leak begins when the last of them is attached.
        "comparison.tools.session.SETTLED_SECONDS",
    )  # fmt: skip
    for limit in limits:
        module, _, name = limit.rpartition(".")
        monkeypatch.setattr(limit, getattr(importlib.import_module(module), name) * SLOWNESS)


def fields() -> dict[str, dict[str, Any]]:
    """The image's fields with their annotations, by name."""
    words = ig.ig("image", "inspect", ig.IMAGE, "--verify-image=false", "--pull", "never", "--show-datasources")
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    (source,) = json.loads(done.stdout)
    assert source["name"] == "memleak"
    return {field["fullName"]: field.get("annotations", {}) for field in source["fields"]}


def test_the_image_declares_its_columns_with_descriptions() -> None:
    found = fields()

    shown = ("function", "outstanding", "blocks", "allocations", "frees", "leak_percent", "age")
    assert [name for name in shown if not found[name].get("description")] == []
    assert [name for name in shown if found[name].get("columns.hidden") == "true"] == []


def test_the_image_declares_its_metrics_and_their_keys() -> None:
    found = fields()

    assert {name for name, own in found.items() if own.get("metrics.type") == "key"} == {
        "stack", "proc.comm", "proc.pid", "function", "k8s.namespace", "k8s.podName", "k8s.containerName",
        "runtime.containerName",
    }  # fmt: skip
    assert {own["metrics.name"] for own in found.values() if own.get("metrics.type") == "gauge"} == {
        "memleak_outstanding_bytes",
        "memleak_blocks",
        "memleak_allocations",
        "memleak_frees",
        "memleak_untracked_allocations",
    }


@SIZES
def test_inspektor_gadget_reports_the_leak_to_the_byte_at_each_reading(chunk_bytes: int) -> None:
    output, leaked = ig.run_gadget(
        scene(chunk_bytes), "--collect-ustack", "--sort", "-outstanding_raw", "--output", "json"
    )

    tables = [json.loads(line) for line in output.splitlines() if line.startswith("[")]
    rows = [table[0] for table in tables if table]
    row = rows[-1]
    assert row["outstanding_raw"] == leaked > 0
    assert (row["allocations"], row["frees"], row["leak_percent"]) == (leaked // chunk_bytes, 0, 100)
    assert row["proc"]["comm"] == "cache-refresh"
    assert row["ustack"]["addresses"].count("; ") >= 3
    # It empties the map at each reading, and the leak has long come to its end: what is read is absolute.
    assert [row["outstanding_raw"] for row in rows[-2:]] == [leaked, leaked]


@SIZES
def test_the_table_is_the_ledgers_and_has_the_columns_that_the_guide_shows(chunk_bytes: int) -> None:
    output, leaked = ig.run_gadget(scene(chunk_bytes), "--sort", "-outstanding_raw")

    heading, row = ig.excerpt(output).splitlines()
    guide = (PROJECT / "docs/EBPF_GUIDE.md").read_text()
    assert heading.split() in [line.split() for line in guide.splitlines() if "LEAK%" in line]
    # On the host the container's name, which is the first column, is empty.
    found = dict(zip(heading.split()[1:], row.split(), strict=False))
    blocks = str(leaked // chunk_bytes)
    assert (found["COMM"], found["LEAK%"]) == ("cache-refresh", "100")
    assert (found["BLOCKS"], found["ALLOCATIONS"], found["FREES"]) == (blocks, blocks, "0")


@SIZES
def test_what_prometheus_is_served_is_the_ledgers_and_in_the_vocabulary(chunk_bytes: int) -> None:
    address = f"127.0.0.1:{free_port()}"
    read = Reader(f"http://{address}/metrics")
    options = (
        "--otel-metrics-listen", "--otel-metrics-listen-address", address, "--otel-metrics-name", "memleak:memleak",
        "--output", "json",
    )  # fmt: skip

    with read.reading():
        _, leaked = ig.run_gadget(scene(chunk_bytes), *options)

    families = {family.name: family for family in text_string_to_metric_families(read.last)}
    totals = {
        quantity: max(families[quantity.gadget].samples, key=lambda sample: sample.value)
        for quantity in vocabulary.QUANTITIES
    }
    assert {families[quantity.gadget].type for quantity in totals} == {"gauge"}
    assert totals[vocabulary.OUTSTANDING].value == leaked > 0
    assert totals[vocabulary.ALLOCATIONS].value == leaked // chunk_bytes
    labels = set(totals[vocabulary.OUTSTANDING].labels)
    assert {label for label in labels if not label.startswith("otel_")} == set(vocabulary.GADGET_LABELS)
    assert totals[vocabulary.OUTSTANDING].labels["command"] == "cache-refresh"
    assert {sample.value for sample in families[vocabulary.UNTRACKED].samples} == {0}


class Reader:
    """Reads an address again and again, and keeps what it said last."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.last = ""

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        stopped = threading.Event()

        def read() -> None:
            while not stopped.wait(0.2):
                with contextlib.suppress(OSError), urllib.request.urlopen(self._url, timeout=2 * SLOWNESS) as answer:
                    self.last = answer.read().decode() or self.last

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield
        finally:
            stopped.set()
            reader.join()


def test_the_image_can_be_pushed() -> None:
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(REGISTRY):
            pytest.skip(f"needs a registry at {REGISTRY[0]}:{REGISTRY[1]}: make kind starts one")
    tag = f"{REGISTRY[0]}:{REGISTRY[1]}/memleak:test"
    ig.build_image(tag)

    done = subprocess.run(
        ["ig", "image", "push", tag, f"--insecure-registries={REGISTRY[0]}:{REGISTRY[1]}"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Successfully pushed" in done.stdout + done.stderr
