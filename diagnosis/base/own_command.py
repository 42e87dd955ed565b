"""How this program is called, for lines to paste into a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from shlex import quote

__all__ = ["bin_folder", "own_command"]


def bin_folder() -> Path | None:
    """Where this program lies, if no PATH leads to it."""
    folder = Path(sys.executable).parent
    found = shutil.which("memleak-lab")
    return None if found and Path(found).resolve() == (folder / "memleak-lab").resolve() else folder


def own_command() -> str:
    """How this program is called in another terminal."""
    sudo = "sudo " if "SUDO_UID" in os.environ else ""
    folder = bin_folder()
    return sudo + (quote(str(folder / "memleak-lab")) if folder else "memleak-lab")
