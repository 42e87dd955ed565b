"""The command in this process, on machines that a test makes up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis.doctor.preflight import Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., tuple[int, str, str]]


def machine(sys_folder: Path, *, euid: int = 0, kernel: str = "6.12.0") -> Machine:
    return Machine("Linux", "x86_64", kernel, euid, {}, sys_folder)
