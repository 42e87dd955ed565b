"""The gadget's image, and Inspektor Gadget itself at work with it."""

from __future__ import annotations

import json
import socket
import subprocess
from typing import Any

import pytest

from comparison.guide import ig
from comparison.guide.service import Scene
from comparison.tools.gadget import cannot_build

pytestmark = [pytest.mark.ebpf, pytest.mark.skipif(bool(ig.missing()), reason=ig.missing() or "ig")]

MIB = 1 << 20
REGISTRY = ("localhost", 5001)
SCENE = Scene(container=False, chunk_bytes=MIB, cap_bytes=8 * MIB)


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    if reason := cannot_build():
        pytest.skip(f"the gadget cannot be built: {reason}")
    ig.build_image()


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


def test_inspektor_gadget_reports_the_leak_to_the_byte_at_each_reading() -> None:
    output, leaked = ig.run_gadget(SCENE, "--collect-ustack", "--sort", "-outstanding_raw", "--output", "json")

    tables = [json.loads(line) for line in output.splitlines() if line.startswith("[")]
    rows = [table[0] for table in tables if table]
    row = rows[-1]
    assert row["outstanding_raw"] == leaked > 0
    assert (row["allocations"], row["frees"], row["leak_percent"]) == (leaked // MIB, 0, 100)
    assert row["proc"]["comm"] == "cache-refresh"
    assert row["ustack"]["addresses"].count("; ") >= 3
    # It empties the map at each reading, and the leak has long come to its end: what is read is absolute.
    assert [row["outstanding_raw"] for row in rows[-2:]] == [leaked, leaked]


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
