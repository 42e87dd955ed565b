"""Where a thread's frames end: in the code that started it.

Code that was built without frame pointers leaves anything in their register. The C library's start of a program is such
code in some builds (Debian's glibc 2.43): after it the frame pointers of a whole stack are invalid. A stack that has
come so far is complete.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import capstone

if TYPE_CHECKING:
    from diagnosis.target.objects import ElfObject

# In the C runtime, or in a program that has its own.
START_FUNCTIONS = frozenset({"main", "_start", "__libc_start_call_main", "__libc_start_main", "start_thread", "clone3"})

# What has to be read behind a return address to see what is called next.
CODE_BYTES = 16
_INSTRUCTIONS = 3
_ARCHITECTURES = {
    "x64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
    "AArch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
}


def calls_exit(elf: ElfObject, code: bytes, address: int) -> bool:
    """True where what comes next is a call of exit, as in ``exit(main(argc, argv, envp))``.

    Args:
        elf: the C library.
        code: from a return address on, `CODE_BYTES`.
        address: that return address, in the object's own address space.
    """
    target, architecture = elf.exports.get("exit"), _ARCHITECTURES.get(elf.machine)
    if target is None or architecture is None:
        return False
    disassembler = capstone.Cs(*architecture)
    disassembler.detail = True
    for instruction in itertools.islice(disassembler.disasm(code, address), _INSTRUCTIONS):
        if instruction.group(capstone.CS_GRP_CALL):
            (called,) = instruction.operands
            return bool(called.type == capstone.CS_OP_IMM and called.imm == target.address)
    return False
