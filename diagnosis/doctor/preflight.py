"""What this machine needs before anything starts, each with its remedy."""

from __future__ import annotations

import errno
import os
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.base.files import FEWEST_DESCRIPTORS
from diagnosis.target.parser.client import ParserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from diagnosis.target.parser.client import Parser
    from diagnosis.trace.trial import Trial

ARCHITECTURES = ("x86_64", "aarch64")

# Task storage for tracing programs came with 5.12, cookies of uprobes with 5.15.
OLDEST_KERNEL = (5, 15)

NO_FILTER = "for a filter of its system calls as well: apt-get install libseccomp2"


@dataclass(frozen=True)
class Check:
    """One finding: ``remedy`` is "" where nothing is missing."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Machine:
    """Where the checks look. Every part has a stand-in in the tests."""

    system: str = field(default_factory=platform.system)
    architecture: str = field(default_factory=platform.machine)
    kernel: str = field(default_factory=platform.release)
    euid: int = field(default_factory=os.geteuid)
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    sys: Path = Path("/sys")
    proc: Path = Path("/proc")


def check_machine(machine: Machine, *, loads: bool = True) -> list[Check]:
    """Everything that tracing needs, cheapest first. Nothing is changed, and nothing stays loaded.

    Args:
        machine: where the checks look.
        loads: load the eBPF program too, which takes the kernel about a second.
    """
    checks = [
        _system(machine),
        _kernel(machine),
        _privileges(machine),
        _btf(machine),
        _uprobes(machine),
    ]
    # The rest is found by loading a program: lockdown, seccomp, a libbpf that does not fit.
    if loads and all(check.ok for check in checks):
        checks.append(_load(_load_program))
    return checks


def check_probes(try_them: Callable[[], Trial] | None = None, sample: Callable[[], None] | None = None) -> list[Check]:
    """What only a trial tells: probes attached to a child of this program, and the sampler of page faults loaded."""
    return [_trial(try_them or _try_probes), _sampler(sample or _sample_faults)]


def check_parser(parser: Parser) -> Check:
    """What holds the process that reads a target's files. Without it no allocator can be found."""
    try:
        holds = parser.start()
    except ParserError as error:
        return Check(
            "parser", ok=False, found=str(error), remedy="make install, in a folder that is not mounted noexec"
        )
    found = f"confined by {', '.join(sorted(holds))}"
    return Check("parser", ok=True, found=found, remedy="" if "seccomp" in holds else NO_FILTER)


def _system(machine: Machine) -> Check:
    found = f"{machine.system} on {machine.architecture}"
    ok = machine.system == "Linux" and machine.architecture in ARCHITECTURES
    return Check("system", ok, found, "" if ok else f"use Linux on {' or '.join(ARCHITECTURES)}")


def _kernel(machine: Machine) -> Check:
    match = re.match(r"(\d+)\.(\d+)", machine.kernel)
    ok = bool(match) and (int(match[1]), int(match[2])) >= OLDEST_KERNEL if match else False
    oldest = ".".join(map(str, OLDEST_KERNEL))
    return Check("kernel", ok, machine.kernel, "" if ok else f"boot a kernel {oldest} or newer")


def _privileges(machine: Machine) -> Check:
    ok = machine.euid == 0
    return Check("privileges", ok, "root" if ok else f"uid {machine.euid}", "" if ok else "run it as root: sudo ...")


def _btf(machine: Machine) -> Check:
    path = machine.sys / "kernel/btf/vmlinux"
    ok = path.exists()
    return Check(
        "kernel types (BTF)",
        ok,
        str(path) if ok else f"{path} is missing",
        "" if ok else "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (every distribution's is), with /sys mounted",
    )


def _uprobes(machine: Machine) -> Check:
    """Either way into the kernel will do: the uprobe event source, or tracefs on kernels that hide it."""
    source = machine.sys / "bus/event_source/devices/uprobe/type"
    tracefs = machine.sys / "kernel/tracing/uprobe_events"
    found = next((str(path) for path in (source, tracefs) if path.exists()), "")
    return Check(
        "uprobes",
        bool(found),
        found or f"neither {source} nor tracefs is there",
        "" if found else "mount -t tracefs nodev /sys/kernel/tracing (the kernel needs CONFIG_UPROBE_EVENTS=y)",
    )


def _load_program() -> str:
    """Load the eBPF program and drop it again."""
    from heap_trace import HeapTrace  # noqa: PLC0415 - the check is whether this works

    with HeapTrace(max_blocks=1, max_stacks=1) as trace:
        return "one program for entry and return" if trace.uses_session else "an entry and a return program"


def _try_probes() -> Trial:
    from diagnosis.trace.trial import try_probes  # noqa: PLC0415 - needs the compiled package

    return try_probes()


def _sample_faults() -> None:
    from heap_trace.page_faults import PageFaults  # noqa: PLC0415

    with PageFaults() as faults:
        faults.attach()


def _trial(try_them: Callable[[], Trial]) -> Check:
    try:
        trial = try_them()
    except (ImportError, OSError, LabError) as error:
        remedy = _more_files(error) or "see `dmesg` for a lockdown, or use trace --light"
        return Check("probes", ok=False, found=_in_a_line(error), remedy=remedy)
    if trial.exact:
        return Check("probes", ok=True, found="attached to a process of this program: every block was counted")
    ended = f", and signal {trial.ended_by} ended it" if trial.ended_by else ""
    return Check(
        "probes",
        ok=False,
        found=f"a process of this program had {trial.counted} of its blocks counted{ended}",
        remedy="trace nothing on this machine, and report its kernel",
    )


def _sampler(sample: Callable[[], None]) -> Check:
    try:
        sample()
    except (ImportError, OSError) as error:
        remedy = _more_files(error) or "trace without --light; watch will not work"
        return Check("page faults", ok=False, found=_in_a_line(error), remedy=remedy)
    return Check("page faults", ok=True, found="the kernel takes the sampler of --light and watch")


def _load(load: Callable[[], str]) -> Check:
    try:
        return Check("eBPF program", ok=True, found=f"the kernel takes it: {load()}")
    except ImportError as error:
        return Check("eBPF program", ok=False, found=str(error), remedy="make install")
    except OSError as error:
        return Check(
            "eBPF program",
            ok=False,
            found=_in_a_line(error),
            remedy=_more_files(error)
            or "allow this process CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE, and see `dmesg` for a lockdown",
        )


def _in_a_line(error: Exception) -> str:
    """What the kernel and libbpf said, which is several lines."""
    return "; ".join(filter(None, map(str.strip, str(error).splitlines())))


def _more_files(error: Exception) -> str:
    """The remedy where too few files may be open at a time, else ""."""
    if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
        return ""
    return f"ulimit -n {FEWEST_DESCRIPTORS}, in a shell whose hard limit (ulimit -Hn) lets so many files be open"
