"""Separate debug information: what a distribution has installed, what lies beside a program, what debuginfod fetches.

The first and the last are found by build id. A program that was stripped by hand names its file (`.gnu_debuglink`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diagnosis.base.files import find_beneath
from diagnosis.target.objects import open_found, open_regular
from diagnosis.target.parser.answers import debug_link_of, flag_of
from diagnosis.target.parser.client import ParserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from diagnosis.target.parser.client import Budget, Parser

__all__ = ["INSTALLED", "DebugFiles", "Linked"]

# Where distributions put the debug information that they strip from a file.
DEBUG = "/usr/lib/debug"
INSTALLED = Path(DEBUG, ".build-id")
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

    def open(self, build_id: str, linked: Callable[[], int]) -> int:
        """A descriptor of the file for this build id, in hexadecimal digits; "" for an object without one.

        Args:
            build_id: the object's.
            linked: opens the file that the object names, or raises an OSError.

        Raises:
            OSError: there is none.
        """
        if build_id:
            with contextlib.suppress(OSError):
                return open_regular(self._folder / build_id[:2] / f"{build_id[2:]}.debug")
        with contextlib.suppress(OSError):
            return linked()
        return open_regular(self._fetched(build_id))

    def _fetched(self, build_id: str) -> Path:
        """Where debuginfod's client has put it."""
        if not build_id or self._client is None or self._left <= 0:
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


@dataclass(frozen=True)
class Linked:
    """An object that may name the file with its debug information.

    Attributes:
        descriptor: of the object.
        path: as its process's mappings have it.
        build_id: the object's; "" where it has none.
        root: a descriptor of the process's root directory. The file is looked for in there, and no link is followed:
            the process may have made it.
    """

    descriptor: int
    path: str
    build_id: str
    root: int

    def open(self, parser: Parser, budget: Budget) -> int:
        """A descriptor of that file: of its build id or, where there is none, of the checksum that the object says.

        Raises:
            OSError: there is none.
        """
        name = ""
        with contextlib.suppress(ParserError):
            name, checksum = debug_link_of(parser.ask("debug_link", files=[self.descriptor], budget=budget))
        folder = self.path.rpartition("/")[0]
        for place in (folder, f"{folder}/.debug", f"{DEBUG}{folder}") if name else ():
            with contextlib.suppress(OSError, ParserError), ExitStack() as stack:
                found = open_found(find_beneath(self.root, f"{place}/{name}"))
                stack.callback(os.close, found)
                fields = {"build_id": self.build_id, "checksum": checksum}
                if flag_of(parser.ask("is_linked", fields, files=[found], budget=budget), "linked"):
                    stack.pop_all()
                    return found
        raise FileNotFoundError(name)
