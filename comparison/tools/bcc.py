"""BCC's memleak. It compiles its program at run time, against headers of the kernel."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from comparison.tools.tool import Row
from diagnosis.base.units import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INTERVAL_SECONDS = 1
PROGRAMS = ("memleak-bpfcc", "/usr/share/bcc/tools/memleak")
SOURCES = Path("/usr/src")

# The Python that the distribution's BCC belongs to.
BCC_PYTHON = "/usr/bin/python3"
BCC_LAUNCHER = Path(__file__).with_name("bcc_memleak.py")

_REPORT = re.compile(r"^(?=\[\d\d:\d\d:\d\d\] )", re.MULTILINE)
_STACK = re.compile(r"^\t(\d+) bytes in \d+ allocations from stack\n((?:\t\t.+\n?)*)", re.MULTILINE)
_FRAME = re.compile(r"0x[0-9a-f]+\s+(.*)")


class BccMemleak:
    """``memleak-bpfcc -p PID INTERVAL``."""

    slug = "bcc"
    name = "BCC memleak"
    # Both ends of nine functions that take memory, and the entries of free and munmap.
    probes = 20
    # A report counts no allocation of the last half second: the second one from now has all of them.
    settle_seconds = 2.5 * INTERVAL_SECONDS

    def missing(self) -> str:
        """Whether the tool and the headers are there."""
        if not _program():
            return "BCC is not installed: apt-get install bpfcc-tools"
        if not _has_own_headers() and not _debian_headers():
            return "there are no kernel headers to compile against: apt-get install linux-headers-amd64"
        return ""

    def environment(self, folder: Path) -> Mapping[str, str]:
        """Where the headers are, if not those of the running kernel; and no buffer between a report and its reader."""
        variables = {"PYTHONUNBUFFERED": "1"}
        if not _has_own_headers():
            # Debian splits them over two packages, and BCC takes one folder.
            merged = folder / "headers"
            if not merged.exists():
                for part in _debian_headers():
                    for name in ("include", "arch"):
                        shutil.copytree(part / name, merged / name, dirs_exist_ok=True, symlinks=True)
            variables["BCC_KERNEL_SOURCE"] = str(merged)
        return variables

    def command(self, pid: int, folder: Path) -> Sequence[str]:
        """As a learner types it."""
        del folder
        return [_program(), "-p", str(pid), str(INTERVAL_SECONDS)]

    def report(self, output: str, folder: Path) -> str:
        """The last of its reports."""
        del folder
        return _REPORT.split(output)[-1]

    def rows(self, report: str) -> Sequence[Row]:
        """The stacks of a report."""
        return [Row(_functions(frames), int(count)) for count, frames in _STACK.findall(report)]

    def excerpt(self, report: str) -> str:
        """The two largest of the stacks of 1 MiB and more: further ones come and go with the layout of memory."""
        large = [match for match in _STACK.finditer(report) if int(match[1]) >= MIB]
        shown = sorted(large, key=lambda match: int(match[1]))[-2:]
        return "".join([report.partition("\n")[0], "\n", *(match[0] for match in shown)]).strip()


class LaunchedBcc(BccMemleak):
    """BCC's memleak through this project's launcher, which makes it attach every time."""

    def command(self, pid: int, folder: Path) -> Sequence[str]:
        """The guide's command, launched."""
        return [BCC_PYTHON, str(BCC_LAUNCHER), *super().command(pid, folder)]


def _functions(frames: str) -> tuple[str, ...]:
    # 0x00007f65... catalog_cache_insert+0x25 [_catalog_cache.abi3.so]
    return tuple(match[1].partition("+")[0] for match in _FRAME.finditer(frames))


def _program() -> str:
    return next((found for name in PROGRAMS if (found := shutil.which(name))), "")


def _has_own_headers() -> bool:
    return "BCC_KERNEL_SOURCE" in os.environ or Path("/lib/modules", os.uname().release, "build").exists()


def _debian_headers() -> tuple[Path, ...]:
    """The two halves of Debian's newest headers: what all architectures share, and this one's."""
    halves = sorted(SOURCES.glob("linux-headers-*-common"))
    for common in reversed(halves):
        for own in SOURCES.glob(common.name.removesuffix("common") + "*"):
            if own != common and (own / "include").exists():
                return common, own
    return ()
