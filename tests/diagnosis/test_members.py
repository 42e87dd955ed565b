from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.members import container_of, family_of
from diagnosis.target.process import Process
from tests.diagnosis.recorded import PID, record
from tests.support.programs import running
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

CONTAINER = "0::/system.slice/docker-" + "ab" * 32 + ".scope"


def add(proc: Path, pid: int, cgroup: str) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "cgroup").write_text(cgroup)


def test_a_family_is_a_process_and_all_that_it_started_as_it_is_now() -> None:
    starter = "import subprocess, sys; input(); subprocess.run(['sleep', '60'])"
    with running(sys.executable, "-c", starter) as program:
        members = family_of(Process(program.pid))
        assert members() == {program.pid}
        assert program.stdin
        program.stdin.write("\n")
        program.stdin.flush()
        wait_until(lambda: len(members()) == 2, "what it started is a member")
        for pid in set(members()) - {program.pid}:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("version_1", [False, True])
def test_a_container_is_every_process_of_its_control_group(tmp_path: Path, version_1: bool) -> None:
    own = f"12:memory:{CONTAINER[3:]}\n1:name=systemd:{CONTAINER[3:]}\n" if version_1 else f"{CONTAINER}\n"
    process = record(tmp_path)
    (tmp_path / str(PID) / "cgroup").write_text(own)
    add(tmp_path, 20, own)
    add(tmp_path, 21, own.replace(".scope\n", ".scope/init.scope\n"))  # systemd in the container
    add(tmp_path, 22, own.replace("ab", "cd"))
    add(tmp_path, 23, own.replace(".scope\n", ".scope-other\n"))
    add(tmp_path, 24, "12:memory:/\n1:name=systemd:/\n" if version_1 else "0::/\n")
    assert container_of(process, tmp_path)() == {PID, 20, 21}


def test_a_process_of_the_root_group_has_nobody_with_it(tmp_path: Path) -> None:
    process = record(tmp_path)
    (tmp_path / str(PID) / "cgroup").write_text("0::/\n")
    add(tmp_path, 20, "0::/\n")
    assert container_of(process, tmp_path)() == {PID}


@pytest.mark.parametrize("end", ["\x1c", "\x85", "\u2028", "\x0b"])
def test_a_group_s_name_is_no_other_line(tmp_path: Path, end: str) -> None:
    """GIVEN a user's group whose name holds what looks like a line of the container's, THEN it is no member."""
    process = record(tmp_path)
    (tmp_path / str(PID) / "cgroup").write_text(f"{CONTAINER}\n")
    add(tmp_path, 20, f"0::/user.slice/x{end}{CONTAINER}\n")
    assert container_of(process, tmp_path)() == {PID}


def test_groups_of_other_bytes_are_others(tmp_path: Path) -> None:
    process = record(tmp_path)
    (tmp_path / str(PID) / "cgroup").write_bytes(b"0::/\xff\n")
    (tmp_path / "20").mkdir()
    (tmp_path / "20" / "cgroup").write_bytes(b"0::/\xfe\n")
    assert container_of(process, tmp_path)() == {PID}
