"""Targets that are large, that change all the time, that end, or that belong to somebody else."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.hostile.programs import CHURN, LEAKER, MANY_MAPPINGS, deep_inlining
from tests.hostile.running import (
    GENEROUS_SECONDS,
    MEMLEAK_LAB,
    Result,
    assemble,
    functions,
    hostile,
    memleak_lab,
    report,
)
from tests.support.programs import compile_c

pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(300)]


@pytest.mark.parametrize("count", [2_400, 60_000])
def test_many_mappings_of_code_are_traced_with_few_descriptors(count: int, folder: Path) -> None:
    program = compile_c(MANY_MAPPINGS, folder / "many")
    with hostile(program, str(count)) as pid:
        few = ["sh", "-c", 'ulimit -n 256; exec "$0" "$@"', str(MEMLEAK_LAB)]
        result = Result([*few, "trace", "--pid", str(pid), "--duration", "1s", "--format", "json"])
    result.check()
    assert functions(json.loads(result.out))[0] == "leak"


def test_a_program_that_maps_code_all_the_time_is_traced_with_few_descriptors(folder: Path) -> None:
    with (
        hostile(compile_c(CHURN, folder / "churn")) as pid,
        subprocess.Popen(
            [MEMLEAK_LAB, "trace", "--pid", str(pid), "--duration", "8s", "--interval", "0.5s", "--format", "json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as tracer,
    ):
        most = 0
        while tracer.poll() is None:
            with contextlib.suppress(FileNotFoundError):
                most = max(most, len(list(Path(f"/proc/{tracer.pid}/fd").iterdir())))
            time.sleep(0.1)
        out = tracer.stdout.read() if tracer.stdout else ""
    assert functions(json.loads(out))[0] == "leak"
    assert 0 < most < 200


def test_arguments_of_two_hundred_thousand_characters_are_cut(folder: Path) -> None:
    program = compile_c(LEAKER, folder / "leaker")
    with hostile(program, *["x" * 100_000] * 2) as pid:
        found = report(pid)
    assert len(found["target"]["command"]) <= 1024


# --- time ---


def test_a_target_that_ends_at_any_moment_is_said_in_a_line(folder: Path) -> None:
    """GIVEN a target that is killed somewhere between the tracer's start and its window THEN there is no traceback."""
    program = compile_c(LEAKER, folder / "leaker")
    moments = random.Random(9)
    for _ in range(12):
        with (
            hostile(program) as pid,
            subprocess.Popen(
                [MEMLEAK_LAB, "trace", "--pid", str(pid), "--duration", "5s"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as tracer,
        ):
            time.sleep(moments.uniform(0.2, 2.0))
            os.kill(pid, signal.SIGKILL)
            _, err = tracer.communicate(timeout=GENEROUS_SECONDS)
        assert "Traceback" not in err, err
        assert tracer.returncode in (0, 2), err


def test_another_users_process_does_not_stop_a_watch(plugin_host: Path, folder: Path) -> None:
    deep = folder / "libdeep-of-nobody.so"
    assemble(deep_inlining(200_000), deep)
    with hostile(plugin_host, deep, user=65_534) as pid:
        watched = memleak_lab("watch", "--duration", "3s", "--top", "20")
    watched.check()
    assert f"pid {pid} grew" in watched.out
    assert "leak" in watched.out
