"""Separate debug information by build id: what a distribution has installed, or what debuginfod fetches if one asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from diagnosis.target.objects import open_regular

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["INSTALLED", "DebugFiles"]

# Where distributions put the debug information that they strip from a file.
INSTALLED = Path("/usr/lib/debug/.build-id")
# elfutils' client. It keeps what it has fetched, and asks the servers that this variable names, where there are any.
CLIENT, SERVERS = "debuginfod-find", "DEBUGINFOD_URLS"
# For all files of a process together: whoever waits for names can be at a terminal.
FETCHING_SECONDS = 60.0


class DebugFiles:
    """Opens separate debug information.

    Args:
        folder: where it is installed, by build id.
        environ: names debuginfod's servers in ``DEBUGINFOD_URLS``; without them no network is used.
    """

    def __init__(self, folder: Path = INSTALLED, environ: Mapping[str, str] = os.environ) -> None:
        self._folder, self._environ = folder, environ
        self._client = shutil.which(CLIENT) if environ.get(SERVERS, "").strip() else None
        self._left = FETCHING_SECONDS

    def open(self, build_id: str) -> int:
        """A descriptor of the file for this build id, in hexadecimal digits.

        Raises:
            OSError: there is none.
        """
        try:
            return open_regular(self._folder / build_id[:2] / f"{build_id[2:]}.debug")
        except OSError:
            return open_regular(self._fetched(build_id))

    def _fetched(self, build_id: str) -> Path:
        """Where debuginfod's client has put it."""
        if self._client is None or self._left <= 0:
            raise FileNotFoundError(build_id)
        began = time.monotonic()
        limits = {"DEBUGINFOD_MAXTIME": f"{max(1, int(self._left))}", "DEBUGINFOD_TIMEOUT": "10"}
        try:
            done = subprocess.run(
                [self._client, "debuginfo", build_id],
                env={**limits, **self._environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=self._left,
                check=True,
            )
        except subprocess.SubprocessError as error:
            raise FileNotFoundError(build_id) from error
        finally:
            self._left -= time.monotonic() - began
        return Path(os.fsdecode(done.stdout.strip()))
