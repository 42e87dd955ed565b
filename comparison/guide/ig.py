"""This project's gadget in Inspektor Gadget itself, and what that prints."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from comparison.guide.loaded_probes import LoadedProbes, is_loaded
from comparison.guide.service import held_service
from comparison.tools.gadget import GADGET, cannot_build
from comparison.tools.session import Session
from diagnosis.base.errors import LabError
from diagnosis.target.libc import is_libc
from diagnosis.target.process import Process

if TYPE_CHECKING:
    from pathlib import Path

    from comparison.guide.service import Scene

NAME = "Inspektor Gadget by itself"
IMAGE = "memleak:guide"
# What gives blocks back is probed before what takes them: a free that was not seen would leave its block counted.
FUNCTIONS = (
    "free", "realloc", "reallocarray", "malloc", "valloc", "pvalloc", "calloc", "aligned_alloc", "memalign",
    "posix_memalign",
)  # fmt: skip
LOADS_SECONDS = 20.0
READS_SECONDS = 3.0
POLL_SECONDS = 0.1
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def missing() -> str:
    """Why Inspektor Gadget cannot run the gadget here; "" where it can."""
    return "" if shutil.which("ig") else "ig is not installed: see pulumi stack output gadget_install_command"


def without_kprobes() -> str:
    """Why Inspektor Gadget finds neither containers nor files here; "" where it does."""
    with open("/proc/kallsyms", encoding="ascii", errors="replace") as symbols:  # noqa: PTH123 - a file that is read line by line
        has = any(line.split()[2] == "register_kprobe" for line in symbols)
    return "" if has else "this kernel has no kprobes, by which Inspektor Gadget finds containers and attaches uprobes"


def build_image(tag: str = IMAGE) -> None:
    """Build the gadget's image with ``ig image build`` and this machine's compiler.

    Raises:
        LabError: it cannot be built; the text is ig's own.
    """
    if reason := missing() or cannot_build():
        raise LabError(reason)
    done = subprocess.run([GADGET / "build", tag, "--local"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"ig image build failed: {done.stderr.strip()}")


def ig(*arguments: str) -> list[str]:
    """An ig command in a pid namespace of its own.

    Its process 1 is then readable: on machines that are containers themselves the real one may not be.
    """
    return ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "ig", *arguments]


def run_gadget(scene: Scene, *options: str) -> tuple[str, int]:
    """Run the image on the service; returns what ig printed, and the leaked bytes.

    On a kernel without kprobes the probes are attached for it.

    Raises:
        LabError: it does not load, or the service fails.
    """
    with held_service(scene) as service:
        words = ig(
            "run", IMAGE, "--verify-image=false", "--pull", "never", "--host", "--pid", str(service.pid), *options
        )
        with Session(words, {}) as session:
            until = time.monotonic() + LOADS_SECONDS
            while not is_loaded("heap_report"):
                if time.monotonic() > until:
                    raise LabError("ig has not loaded the gadget", session.stderr())
                time.sleep(POLL_SECONDS)
            # The timer is loaded with the probes' programs, in no particular order.
            session.wait_until_attached(1)
            with LoadedProbes(service.pid, _libc(service.pid), FUNCTIONS) if without_kprobes() else nullcontext():
                service.release()
                leaked = service.wait_until_full()
                output = session.finish(READS_SECONDS)
        return output, leaked


def excerpt(output: str) -> str:
    """The heading, and the first row of the last table that has any: they are sorted."""
    lines = [line.rstrip() for line in _ESCAPES.sub("", output).splitlines() if line.strip()]
    tables = "\n".join(lines).split(lines[0] + "\n")
    last = next(rows for rows in reversed(tables) if rows and not rows.startswith(lines[0]))
    return f"{lines[0]}\n{last.splitlines()[0]}"


def _libc(pid: int) -> Path:
    process = Process(pid)
    return next(process.open_path(mapping) for mapping in process.maps() if is_libc(mapping.path))
