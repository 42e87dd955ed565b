"""The real ig, with its own probes, on stock kernels: each in a virtual machine, on the service as a host process.

LAB_VM      a tool with the commands `prepare DIR --dirty` (a checkout's working tree becomes /src, with its .venv) and
            `run KERNEL COMMAND SECONDS` (boots the kernel, runs the command as root in /src, exits with its status)
LAB_KERNELS the kernels to boot; default: 6.1 6.12

Emulated machines are slow: about ten minutes for each kernel on two cores. So this runs where LAB_VM is set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from comparison.guide import ig
from comparison.tools.gadget import cannot_build
from diagnosis.lab.child import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

VM = os.environ.get("LAB_VM", "")
KERNELS = os.environ.get("LAB_KERNELS", "6.1 6.12").split()
LIMIT_SECONDS = 1500
CARRIED = "carried"
# Its own tests of the image, without the one that needs a registry. There a skip is a failure.
COMMAND = f"""
mount -t debugfs nodev /sys/kernel/debug; mount -t tracefs nodev /sys/kernel/tracing
export PATH=/src/{CARRIED}:$PATH LAB_TEST_GADGET_IMAGE=/src/{CARRIED}/gadget.tar
export LAB_TEST_REQUIRE="root ebpf" LAB_TEST_SLOWNESS=8
.venv/bin/python -m pytest tests/system/gadget/test_image.py -q --timeout=700 -k "not pushed" 2>&1
"""

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not VM, reason="LAB_VM names no tool that boots stock kernels"),
    pytest.mark.skipif(bool(ig.missing()), reason=ig.missing() or "ig"),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The last commit, with this machine's ig and the gadget's image, where the virtual machines see it."""
    if reason := cannot_build():
        pytest.skip(f"the gadget cannot be built: {reason}")
    tree: Path = tmp_path_factory.mktemp("tree") / "src"
    subprocess.run(["git", "clone", "--quiet", "--shared", PROJECT, tree], check=True)
    carried = tree / CARRIED
    carried.mkdir()
    ig.build_image()
    subprocess.run(["ig", "image", "export", ig.IMAGE, carried / "gadget.tar"], check=True, capture_output=True)
    shutil.copy(shutil.which("ig") or "ig", carried / "ig")
    subprocess.run([VM, "prepare", tree, "--dirty"], check=True, env={**os.environ, "TREE": "gadget"})


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("kernel", KERNELS)
def test_table_and_metrics_equal_the_ledger(kernel: str) -> None:
    done = subprocess.run(
        [VM, "run", kernel, COMMAND, str(LIMIT_SECONDS)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TREE": "gadget"},
    )

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
