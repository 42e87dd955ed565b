"""Run inside gdb, attached: counts the stacks of all calls of one function, and writes them down as JSON.

gdb -batch -p PID -x backtraces.py, with BACKTRACES_OF, an address, BACKTRACES_READY, a file that is made when the
breakpoint is in, and BACKTRACES, the file that the stacks go into when the process ends: return addresses and count.
"""

import collections
import json
import os
import pathlib

import gdb  # type: ignore[import-untyped] # gdb's own

SETTINGS = (
    "pagination off", "confirm off", "debuginfod enabled off",
    "backtrace past-main on", "backtrace past-entry on", "backtrace limit 600",
)  # fmt: skip

stacks: collections.Counter[tuple[int, ...]] = collections.Counter()


class Entry(gdb.Breakpoint):  # type: ignore[misc]
    """Never stops: counts the stack of the call, from its return address on."""

    def stop(self) -> bool:
        """Called by gdb at each call."""
        frame, addresses = gdb.newest_frame().older(), []
        while frame is not None and frame.is_valid():
            if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):  # those have no return address of their own
                addresses.append(frame.pc())
            frame = frame.older()
        stacks[tuple(addresses)] += 1
        return False


for setting in SETTINGS:
    gdb.execute(f"set {setting}")
Entry(f"*{os.environ['BACKTRACES_OF']}", internal=True)
pathlib.Path(os.environ["BACKTRACES_READY"]).touch()
gdb.execute("continue")
pathlib.Path(os.environ["BACKTRACES"]).write_text(json.dumps(list(stacks.items())))
