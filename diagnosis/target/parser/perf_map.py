"""The map that a JIT compiler writes of its code: ``START SIZE NAME`` a line, the numbers in hexadecimal digits.

Its format is that of the kernel's tools/perf/Documentation/jit-interface.txt. Whatever is no such line is passed over:
a compiler may be in the midst of writing one.
"""

from __future__ import annotations

import bisect
import os
import re

MAX_BYTES = 32 << 20
MAX_LINES = 1 << 18

# What an entry takes in memory beside its text.
ENTRY_BYTES = 200
MAX_NAME = 4_096
_LINE = re.compile(rb"(?:0x)?([0-9a-fA-F]{1,16}) (?:0x)?([0-9a-fA-F]{1,16}) ([^\n]+)")


class PerfMap:
    """Names of generated code, by address. Later lines stand for what earlier ones had said of an address.

    Args:
        descriptor: of the file, of which at most the last `MAX_BYTES` are read.
    """

    def __init__(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        offset = max(0, size - MAX_BYTES)
        text = bytearray()
        while len(text) < MAX_BYTES and (part := os.pread(descriptor, 1 << 20, offset + len(text))):
            text += part
        newest = {}
        for line in bytes(text).split(b"\n")[-MAX_LINES:]:
            if found := _LINE.fullmatch(line):
                newest[int(found[1], 16)] = (int(found[2], 16), found[3])
        self._starts = sorted(newest)
        self._code = [newest[start] for start in self._starts]
        self.size = len(text) + ENTRY_BYTES * len(newest)

    def lookup(self, address: int) -> list[tuple[str, str, int]]:
        """The name at an address, as a frame without a file."""
        at = bisect.bisect_right(self._starts, address) - 1
        if at < 0:
            return []
        size, name = self._code[at]
        if address >= self._starts[at] + size:
            return []
        return [(name[:MAX_NAME].decode(errors="backslashreplace"), "", 0)]
