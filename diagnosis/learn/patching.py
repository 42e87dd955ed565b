"""Applies a shipped patch to a learner's files, with the learner's rights."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

from diagnosis.base.errors import LabError
from diagnosis.learn.owner import owner_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["is_applied", "run_patch"]

PATCH_SECONDS = 30.0


def run_patch(folder: Path, patch: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Apply a patch: all of it or nothing.

    Args:
        folder: whose owner's rights it has.
        patch: the file. It is passed by standard input, as the owner may not be able to read it.
        arguments: of patch(1): what is patched.

    Returns: the status, 0 where it was applied, and what was printed.

    Raises:
        LabError: patch is not installed, or did not end.
    """
    command = ["patch", "--batch", "--forward", "--silent", "--reject-file=-", *arguments]
    rights: dict[str, Any] = {}
    if os.geteuid() == 0 and (owner := owner_of(folder)).uid:
        rights = {"user": owner.uid, "group": owner.gid, "extra_groups": []}
    text = patch.read_text()

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more], input=text, capture_output=True, text=True, check=False, timeout=PATCH_SECONDS, **rights
        )

    try:
        tried = run("--dry-run")
        return tried if tried.returncode else run()
    except FileNotFoundError as error:
        raise LabError("patch is not installed", "sudo apt-get install patch") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"patch did not end in {PATCH_SECONDS:g} s", "try it again") from error


def is_applied(folder: Path, patch: Path, *arguments: str) -> bool:
    """Whether a patch is in the files already: whether it could be taken out of them. Its arguments: `run_patch`."""
    return run_patch(folder, patch, *arguments, "--reverse", "--dry-run").returncode == 0
