"""This project's gadget without Inspektor Gadget: loaded by libbpf, attached and read in Inspektor Gadget's way."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from comparison.tools.tool import Row
from diagnosis.lab.child import PROJECT
from diagnosis.target.process import Process
from diagnosis.target.symbols import Symbolizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GADGET = PROJECT / "native/gadget"
ACCOUNTING = PROJECT / "native/trace/src"
# Inspektor Gadget's name of an architecture, and the one that libbpf's macros know.
ARCHITECTURES = {"x86_64": ("amd64", "x86"), "aarch64": ("arm64", "arm64")}


def gadget_headers() -> Path | None:
    """The folder that holds Inspektor Gadget's headers as ``gadget/``; None where there is none."""
    folders = [Path(name) for name in os.environ.get("CPATH", "").split(":") if name]
    for folder in (*folders, Path("/usr/include"), Path("/usr/local/include")):
        if (folder / "gadget/macros.h").exists():
            return folder
    return None


def cannot_build() -> str:
    """Why the gadget cannot be compiled here; "" where it can."""
    for program in ("clang", "llvm-strip", "cc"):
        if not shutil.which(program):
            return f"{program} is not installed: apt-get install clang llvm gcc libbpf-dev"
    if not gadget_headers():
        return "Inspektor Gadget's headers (include/gadget of its source) are in neither CPATH nor /usr/include"
    if "HEAP_PROCESS" not in (ACCOUNTING / "heap_maps.bpf.h").read_text():
        return "native/trace/src/heap_maps.bpf.h counts one process only: it has no HEAP_PROCESS"
    return ""


def build(folder: Path) -> tuple[Path, Path]:
    """Compile the gadget for this machine, as ``ig image build`` does, and its loader; returns loader and object.

    Raises:
        subprocess.CalledProcessError: the compiler said why.
    """
    headers = gadget_headers() or Path("/usr/include")
    name, macro = ARCHITECTURES[platform.machine()]
    loader, compiled = folder / "load_gadget", folder / f"{name}.bpf.o"
    subprocess.run(
        [
            "clang", "-target", "bpf", "-Wall", "-Werror", "-g", "-O2", f"-D__TARGET_ARCH_{macro}",
            "-I", ACCOUNTING, "-I", headers, "-I", headers / "gadget" / name,
            "-I", f"/usr/include/{platform.machine()}-linux-gnu", "-c", GADGET / "program.bpf.c", "-o", compiled,
        ],
        check=True,
    )  # fmt: skip
    subprocess.run(["llvm-strip", "-g", compiled], check=True)
    parts = [GADGET / part for part in ("load_gadget.c", "gadget_probes.c", "gadget_rows.c")]
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", *parts, "-o", loader, "-lbpf"], check=True)
    return loader, compiled


class Gadget:
    """``load_gadget OBJECT PID``."""

    slug = "gadget"
    name = "memleak gadget, by libbpf"
    # Nine functions at both ends, and free.
    probes = 19
    # It reads once a second what a timer has reported in the half second before.
    settle_seconds = 2.5

    def missing(self) -> str:
        """Whether it can be compiled."""
        return cannot_build()

    def environment(self, folder: Path) -> Mapping[str, str]:
        """None."""
        del folder
        return {}

    def command(self, pid: int, folder: Path) -> Sequence[str]:
        """The loader, compiled where it was not yet."""
        loader, compiled = folder / "load_gadget", folder / f"{ARCHITECTURES[platform.machine()][0]}.bpf.o"
        if not compiled.exists():
            build(folder)
        return [str(loader), str(compiled), str(pid)]

    def report(self, output: str, folder: Path) -> str:
        """The last reading, with names for its addresses."""
        del folder
        rows = json.loads(output.splitlines()[-1])
        for row in rows:
            with Symbolizer(Process(row["pid"])) as symbolizer:
                frames = symbolizer.symbolize(tuple(row["frames"])).frames
            row["frames"] = [frame.name for frame in frames]
        return json.dumps(rows, indent=2)

    def rows(self, report: str) -> Sequence[Row]:
        """The stacks of a reading."""
        return [Row(tuple(row["frames"]), int(row["outstanding_raw"])) for row in json.loads(report)]

    def excerpt(self, report: str) -> str:
        """The largest of its rows."""
        return json.dumps(max(json.loads(report), key=lambda row: row["outstanding_raw"]), indent=2)
