"""The tracer on stock kernels: each in a virtual machine, with doctor, the lab at both block sizes, and exact counts.

LAB_VM      a tool with the commands `build KERNEL...` (fetches kernels), `prepare DIR` (a checkout's last commit
            becomes /src, with its .venv) and `run KERNEL COMMAND SECONDS` (boots the kernel, runs the command as root
            in /src, exits with its status)
LAB_KERNELS the kernels to boot; default: 6.1 6.12 7
LAB_STOCK   "all": every test of the tracer's that needs no long loop, for an hour and more; default: a choice

Emulated machines are ten to thirty times slower than this one. So the lab has no visitors there, which would take all
of their processors, and a leak that leaves the time for a reading between two of its steps; and of the tests of the
tracer those run that need no long loop.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from diagnosis.lab.child import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

VM = os.environ.get("LAB_VM", "")
KERNELS = os.environ.get("LAB_KERNELS", "6.1 6.12 7").split()
CHOICE = os.environ.get("LAB_STOCK", "") != "all"
LIMIT_SECONDS = 1800 if CHOICE else 3600
AT_ONCE = 2
TREE = "stock-kernels"

# Each test compiles, starts and reads programs, which takes long there: so there is a choice. What depends most on the
# kernel is in it: older blocks and other stacks; on the oldest kernel, with the strictest verifier and the smallest
# stack, also exact counts, mappings, losses, whole stacks and samples. It has nothing twice: kernels without sessions
# take the pair of programs by themselves, and those with sessions leave it to them. The lab is run on each, at both
# block sizes.
EVERYWHERE = ("trace/test_older.py", "trace/test_other_stacks.py")
ON_THE_OLDEST = (
    *EVERYWHERE,
    "trace/test_calls.py::test_malloc_calloc_and_free",
    "trace/test_calls.py::test_realloc_and_reallocarray",
    "trace/test_mappings.py",
    "trace/test_lost.py::test_a_full_block_map_is_counted_to_the_block",
    "trace/test_unwind.py::test_every_call_path_is_whole",
    "tool/test_light_stacks.py::test_the_report_names_the_function_that_grows",
)
TRACE = ("calls", "mappings", "lost", "older", "other_stacks", "libraries", "processes", "trial", "unwind")
ALL = (*(f"trace/test_{name}.py" for name in TRACE), "tool/test_light_stacks.py")
DOCTOR = ".venv/bin/memleak-lab doctor"
PYTEST = ".venv/bin/python -m pytest -q --timeout=900 --durations=15 -p no:cacheprovider"
LAB = ".venv/bin/memleak-lab run --plain --window 20s"
pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(2 * LIMIT_SECONDS),
    pytest.mark.skipif(not VM, reason="LAB_VM names no tool that boots stock kernels"),
]


def _tests(kernel: str) -> str:
    choice = ON_THE_OLDEST if kernel == KERNELS[0] else EVERYWHERE
    wanted = choice if CHOICE else ALL
    only = '-k "not two-programs"' if CHOICE else ""
    return f"""
uname -r
LAB_TEST_REQUIRE="root ebpf" {PYTEST} {only} {" ".join(f"tests/{each}" for each in wanted)} 2>&1 | tail -n 45
exit ${{PIPESTATUS[0]}}
"""


# One event that was lost, and said, leaves no grade: on two processors that are emulated it is tried once more.
LABS = f"""
set -e
uname -r
{DOCTOR}
while sleep 1; do pkill -f service.visitors; done &
for story in "--chunk 64KiB --speed 5 --duration 1m" "--chunk 1MiB --speed 10 --duration 2m"; do
    said=$({LAB} $story | tail -n 4)
    echo "$said"
    case $said in *"grade is not available"*) {LAB} $story | tail -n 4 ;; esac
done
"""


def _run(kernel: str, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [VM, "run", kernel, command, str(LIMIT_SECONDS)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TREE": TREE},
    )


@dataclass(frozen=True)
class Runs:
    """By kernel: the tests, and the lab."""

    tests: dict[str, Future[subprocess.CompletedProcess[str]]]
    labs: dict[str, Future[subprocess.CompletedProcess[str]]]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    """The last commit on every kernel, two machines at a time, the ones that take longest first."""
    subprocess.run([VM, "build", *KERNELS], check=True)
    subprocess.run([VM, "prepare", PROJECT], check=True, env={**os.environ, "TREE": TREE})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tests = {kernel: pool.submit(_run, kernel, _tests(kernel)) for kernel in KERNELS}
        yield Runs(tests, {kernel: pool.submit(_run, kernel, LABS) for kernel in KERNELS})


@pytest.mark.parametrize("kernel", KERNELS)
def test_exact_on_a_stock_kernel(kernel: str, runs: Runs) -> None:
    done = runs.tests[kernel].result()
    sys.stdout.write(done.stdout)  # with -rP of pytest: what takes long there
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_lab_on_a_stock_kernel(kernel: str, runs: Runs) -> None:
    done = runs.labs[kernel].result()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    assert done.stdout.count("RIGHT: ") == 2, done.stdout[-6000:]
    assert "MISSING" not in done.stdout
