"""Tries the probes on a process of this program's own, before anybody else's has them.

That a kernel loads a program does not say that it attaches it, that the probes fire, or that a process survives them.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass

from heap_trace import HeapTrace

from diagnosis.base.errors import LabError
from diagnosis.target.allocator import find_allocators
from diagnosis.target.process import Process
from diagnosis.trace.attaching import attach_allocator

# A size that nothing else in a Python process asks for.
BLOCKS, BLOCK_BYTES = 7, 54_321
ANSWER_SECONDS = 20.0

# The system call by which x86 kernels from 6.11 on return from a probed function: __NR_uretprobe.
URETPROBE = 335
# Since 6.14, and in corrected versions before, the kernel does not show that call to filters.
_FIRST_WITH_CALL, _FIRST_EXEMPT = (6, 11), (6, 14)

_CHILD = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.malloc.restype = ctypes.c_void_p
if len(sys.argv) > 1:
    # struct sock_filter: load the number of the system call; end the process at this one, else allow it.
    code = (ctypes.c_uint64 * 4)(0x20, int(sys.argv[1]) << 32 | 0x01000015, 0x8000000000000006, 0x7FFF000000000006)
    program = (ctypes.c_uint64 * 2)(4, ctypes.addressof(code))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
        sys.exit("no filter")
print("ready", flush=True)
sys.stdin.readline()
for _ in range({blocks}):
    libc.malloc({size})
print("done", flush=True)
sys.stdin.readline()
"""


@dataclass(frozen=True)
class Trial:
    """How a process of our own fared under the probes: blocks counted of `BLOCKS`, the signal that ended it or 0."""

    counted: int
    ended_by: int
    uses_session: bool

    @property
    def exact(self) -> bool:
        """True where every block was counted and the process lived."""
        return self.counted == BLOCKS and not self.ended_by


def try_probes(*, allow_session: bool = True, forbidden_call: int | None = None, starts: bool = True) -> Trial:
    """Attach, fire and detach probes in a child.

    Args:
        allow_session: as for a trace.
        forbidden_call: a system call at which a filter ends the child.
        starts: False where the filter may end it before it is ready: then nothing is attached.

    Raises:
        LabError: the child does not start.
        TraceError: the kernel refuses the program or its probes.
    """
    program = _CHILD.format(blocks=BLOCKS, size=BLOCK_BYTES)
    command = [sys.executable, "-I", "-c", program, *([] if forbidden_call is None else [str(forbidden_call)])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as child:
        try:
            if not _expect(child, "ready", fatal=starts):
                child.wait()  # its pipe is closed a moment before it can be reaped
                return Trial(0, max(0, -child.returncode), uses_session=False)
            with HeapTrace(max_blocks=4096, max_stacks=4096, allow_session=allow_session) as trace:
                process = Process(child.pid)
                for allocator in find_allocators(process):
                    attach_allocator(trace, process, allocator)
                _write(child)
                _expect(child, "done", fatal=False)
                counted = sum(
                    each.allocations
                    for each in trace.counters().values()
                    if each.allocated_bytes == each.allocations * BLOCK_BYTES
                )
                uses_session = trace.uses_session
            child.communicate("\n", timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise LabError("a process under trial probes does not end", "see: dmesg") from error
        finally:
            child.kill()
    return Trial(counted, max(0, -child.returncode) if child.returncode != -signal.SIGKILL else 0, uses_session)


def endangers_filtered(release: str, machine: str) -> bool:
    """True where a return probe ends a process whose filter of system calls does not know of it (systemd issue 34615).

    Only some kernels can: they are told by a trial, for corrected versions have the same numbers as others.

    Raises:
        TraceError: the kernel refuses the program or its probes.
    """
    version = _version(release)
    if machine != "x86_64" or not _FIRST_WITH_CALL <= version < _FIRST_EXEMPT:
        return False
    return not try_probes(forbidden_call=URETPROBE).exact


def _version(release: str) -> tuple[int, int]:
    major, _, rest = release.partition(".")
    minor = "".join(digit for digit in rest.partition(".")[0] if digit.isdecimal())
    return (int(major), int(minor)) if major.isdecimal() and minor else (0, 0)


def _write(child: subprocess.Popen[str]) -> None:
    if child.stdin is None:
        raise RuntimeError("the child has no pipe")
    child.stdin.write("\n")


def _expect(child: subprocess.Popen[str], line: str, *, fatal: bool = True) -> bool:
    """Whether the child's next line is this one; an end in its place is an error only where it is fatal."""
    if child.stdout is None:
        raise RuntimeError("the child has no pipe")
    found = child.stdout.readline().strip()
    if found != line and fatal:
        raise LabError("a process to try the probes on does not start", f"it printed {found!r}")
    return found == line
