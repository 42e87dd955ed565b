"""Shared memory that was there before is no growth when a process first touches it: as PostgreSQL's backends do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import compile_c

pytestmark = pytest.mark.ebpf

SOURCE = Path(__file__).parents[1] / "support" / "first_touch.c"
MEMLEAK_LAB = Path(sys.executable).with_name("memleak-lab")
MIB = 1 << 20
# /proc's files of a process are read one after the other: the child may take a step of 64 KiB between them.
STEPS = 4 * (64 << 10)


@pytest.mark.parametrize("word", ["was filled", "fills"])
def test_what_a_process_touches_first_is_new_only_where_nobody_had_filled_it(tmp_path: Path, word: str) -> None:
    program = compile_c(SOURCE.read_text(), tmp_path / "first_touch")
    with subprocess.Popen([program, word], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = parent.stdout.readline().strip()
        traced = [str(MEMLEAK_LAB), "trace", "--pid", child, "--duration", "4s", "--format", "json"]
        done = subprocess.run(traced, capture_output=True, text=True, check=False)
        subprocess.run(["kill", "-KILL", child], check=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    kinds = {part["name"]: part["bytes"] for part in report["account"]["kinds"]}
    grew = kinds["shared"] + kinds["shared_before"]
    assert grew > 4 * MIB, kinds
    if word == "fills":
        assert kinds["shared_before"] <= STEPS, kinds
        assert report["verdict"]["answer"] == "growing"
    else:
        assert kinds["shared"] <= STEPS, kinds
        assert report["verdict"]["answer"] == "no leak", report["verdict"]
