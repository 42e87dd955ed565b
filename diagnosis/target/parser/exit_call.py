"""Whether the code at a return address goes on to call exit: what the C library does after main."""

from __future__ import annotations

import itertools

import capstone

_INSTRUCTIONS = 3
# By the names of pyelftools' `get_machine_arch`.
ARCHITECTURES = {
    "x64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
    "AArch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
}


def calls_exit(target: int, machine: str, code: bytes, address: int) -> bool:
    """True where what comes next is a call of exit, as in ``exit(main(argc, argv, envp))``.

    Args:
        target: the address of the C library's exit, in the object's own address space.
        machine: ``x64``, ``AArch64`` or another name of pyelftools' ``get_machine_arch``.
        code: from a return address on, `start.CODE_BYTES`.
        address: that return address, in the object's own address space.
    """
    architecture = ARCHITECTURES.get(machine)
    if architecture is None:
        return False
    disassembler = capstone.Cs(*architecture)
    disassembler.detail = True
    for instruction in itertools.islice(disassembler.disasm(code, address), _INSTRUCTIONS):
        if instruction.group(capstone.CS_GRP_CALL):
            (called,) = instruction.operands
            return bool(called.type == capstone.CS_OP_IMM and called.imm == target)
    return False
