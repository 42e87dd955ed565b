"""Why a process cannot be traced, or not without a risk, each with what to do instead."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from heap_trace import is_privilege_error

from diagnosis.base.errors import LabError
from diagnosis.target.status import handled_signals, is_filtered
from diagnosis.trace.bpf_programs import loaded_programs
from diagnosis.trace.trial import endangers_filtered

if TYPE_CHECKING:
    from heap_trace import TraceError

    from diagnosis.target.process import Process

# A pair of programs cannot decline a return: see heap_endangers in native/trace/src/heap_call.h. Nor can sessions in
# several processes: at a probe in a file that they share the kernel asks each of them, and counts those for another
# process as wanting the return. Whose traces they are makes no difference.
_NO_SESSIONS, _SEVERAL = "This kernel has no uprobe sessions", "Several processes are traced"
_OTHERS = "Another trace is going on on this machine"
# Of the programs that run at a return, by the names that the kernel keeps.
_AT_RETURNS = frozenset({"heap_session", "heap_return"})
_ALTERNATE_STACKS = (
    "{reason}. A few programs may be killed by it (SIGILL): those whose signal handlers run on a stack of their own"
    " (sigaltstack) and allocate or map memory. This one handles {signals}. If it may be one of them, use"
    " trace --light instead"
)


def is_traced_elsewhere() -> bool:
    """True where the kernel holds programs of a trace like these: asked before this one loads its own."""
    try:
        return not _AT_RETURNS.isdisjoint(loaded_programs().values())
    except LabError:
        return False  # who may not ask may not trace


def risk_of_returns(process: Process, *, uses_session: bool, several: bool, others: bool = False) -> str:
    """What return probes that cannot be declined can do to a process; "" where nothing of it can happen.

    Args:
        process: to be traced.
        uses_session: it is by programs that can decline a return, where they are alone.
        several: this trace has several processes.
        others: there are other traces.
    """
    if uses_session and not several and not others:
        return ""
    handled = handled_signals(process.pid)
    reason = _NO_SESSIONS if not uses_session else _SEVERAL if several else _OTHERS
    return _ALTERNATE_STACKS.format(reason=reason, signals=", ".join(handled)) if handled else ""


def refuse_if_endangered(process: Process) -> None:
    """Refuse what the first probe would end.

    Raises:
        LabError: this process, on this kernel.
    """
    kernel = platform.uname()
    if is_filtered(process.pid) and endangers_filtered(kernel.release, kernel.machine):
        raise LabError(
            f"pid {process.pid} has a seccomp filter, which on kernel {kernel.release} would end it at the first probe",
            "boot a kernel 6.14 or newer, or use: memleak-lab trace --light",
        )


def explain(error: TraceError, process: Process) -> LabError:
    """What the kernel's refusal means for who wanted to trace."""
    if not process.alive():
        return LabError(f"pid {process.pid} has ended", "start it again, and trace it while it runs")
    if is_privilege_error(error):
        return LabError(f"the kernel does not let this user trace: {error}", "run this command as root")
    return LabError(f"tracing pid {process.pid} failed: {error}", "run: memleak-lab doctor")
