"""Parts of a function that the compiler put elsewhere, in a file without a symbol table that would name them.

GCC moves what is unlikely out of a function. Of Python's interpreter, whose instructions are all in one function, that
can be most of it, and a stripped file exports the name of the rest alone.
"""

from __future__ import annotations

import bisect
import re
from typing import TYPE_CHECKING

import capstone

from diagnosis.target.parser.elf import mentions
from diagnosis.target.parser.exit_call import ARCHITECTURES
from diagnosis.target.parser.linkage import Linkage
from diagnosis.target.parser.unwind_rows import described_code

if TYPE_CHECKING:
    from collections.abc import Callable

# The function of Python that runs Python.
RUNS_PYTHON = "_PyEval_EvalFrameDefault"

# In clang's builds all of it is 90 KB.
MAX_CODE = 1 << 20
# Jumps, and no calls: j* of x86-64; b, b.*, cbz, cbnz, tbz and tbnz of arm64.
_JUMP = re.compile(r"j\w+|b(\.\w+)?|[ct]bn?z")
_TARGET = re.compile(r"#?0x([0-9a-f]+)$")


def moved_parts(descriptor: int, name: str, frame_information: Callable[[], bytes]) -> tuple[range, ...]:
    """Where else the code of an exported function lies: what it jumps into, and not to the start of.

    Args:
        descriptor: of the file.
        name: of the function.
        frame_information: gives the file's call frame information as symbolic writes it. Asked only for a file that
            exports the function and has no symbol table.

    Returns:
        Addresses from the file's first segment on.

    Raises:
        ELFError: it is no ELF file, or is damaged.
    """
    if not mentions(descriptor, [name]):
        return ()
    linkage = Linkage(descriptor)
    if linkage.machine not in ARCHITECTURES or linkage.has_symbol_table:
        return ()
    function = linkage.functions(lambda each: each == name).get(name)
    if function is None or function.size > MAX_CODE:
        return ()
    described = described_code(frame_information())
    starts = [start for start, _ in described]
    parts: set[range] = set()
    for target in _jumps_out(linkage, function.address, function.size):
        at = target - linkage.base
        start, size = described[bisect.bisect_right(starts, at) - 1] if starts and at >= starts[0] else (at, 0)
        # A jump to the start of a function is its last call.
        if start < at < start + size:
            parts.add(range(start, start + size))
    return tuple(sorted(parts, key=lambda part: part.start))


def _jumps_out(linkage: Linkage, address: int, size: int) -> set[int]:
    disassembler = capstone.Cs(*ARCHITECTURES[linkage.machine])
    disassembler.skipdata = True
    found: set[int] = set()
    for _, _, mnemonic, operands in disassembler.disasm_lite(linkage.read(address, size), address):
        if _JUMP.fullmatch(mnemonic) and (target := _TARGET.search(operands)):
            found.add(int(target[1], 16))
    return {each for each in found if not address <= each < address + size}
