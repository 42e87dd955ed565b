"""What to do about what cannot be read, for root and for everybody else."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from diagnosis.base.errors import LabError
from diagnosis.base.rights import rights_remedy
from diagnosis.target.memory import read_memory

REFUSED, MISSING = PermissionError(errno.EPERM, "no"), FileNotFoundError(errno.ENOENT, "no such file")


@pytest.mark.parametrize(
    ("error", "euid", "remedy"),
    [
        (REFUSED, 1000, "run this command as root, or restart it"),
        (MISSING, 1000, "run this command as root, or restart it"),
        (REFUSED, 0, "this kernel or container refuses it to root as well: run this command on the host, outside of"),
        (MISSING, 0, "restart it"),
    ],
)
def test_root_is_not_told_to_become_root(error: OSError, euid: int, remedy: str) -> None:
    assert rights_remedy(error, "restart it", euid).startswith(remedy)


def test_memory_that_is_refused_to_root_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> bytes:
        raise REFUSED

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("diagnosis.base.rights.os.geteuid", lambda: 0)
    with pytest.raises(LabError, match="the memory of pid 7 cannot be read: this kernel or container refuses it"):
        read_memory(7, tmp_path)
