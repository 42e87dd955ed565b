from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from diagnosis.target.status import handled_signals, is_filtered

if TYPE_CHECKING:
    from pathlib import Path


def write(proc: Path, text: str) -> None:
    (proc / "7").mkdir()
    (proc / "7" / "status").write_text(text)


def test_the_handled_signals_have_their_names_and_the_librarys_own_are_left_out(tmp_path: Path) -> None:
    # Bits 1 (SIGINT), 10 (SIGSEGV), 31 and 32 (glibc's), 33 (SIGRTMIN)
    caught = 1 << 1 | 1 << 10 | 1 << 31 | 1 << 32 | 1 << 33
    write(tmp_path, f"Name:\tx\nSigCgt:\t{caught:016x}\nSeccomp:\t0\n")
    assert handled_signals(7, tmp_path) == ("SIGINT", "SIGSEGV", "SIGRTMIN")
    assert not is_filtered(7, tmp_path)


def test_a_filter_is_mode_two(tmp_path: Path) -> None:
    write(tmp_path, "SigCgt:\t0000000000000000\nSeccomp:\t2\nSeccomp_filters:\t1\n")
    assert is_filtered(7, tmp_path)
    assert handled_signals(7, tmp_path) == ()


def test_of_a_process_that_has_ended_nothing_is_known(tmp_path: Path) -> None:
    assert handled_signals(7, tmp_path) == ()
    assert not is_filtered(7, tmp_path)


@pytest.mark.parametrize("name", ["\x1cSigCgt:zz", "\x1cSigCgt:0", "\x85Seccomp:0", "\x0bSeccomp:0"])
def test_a_name_is_no_other_line(tmp_path: Path, name: str) -> None:
    """A process chooses its name; the kernel escapes the line feed in it, and nothing else."""
    write(tmp_path, f"Name:\t{name}\nSigCgt:\t0000000000000400\nSeccomp:\t2\n")
    assert handled_signals(7, tmp_path) == ("SIGSEGV",)
    assert is_filtered(7, tmp_path)
