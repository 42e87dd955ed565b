"""Where in a function its probe goes.

A uprobe replaces an instruction by a breakpoint. After the trap the kernel either emulates the instruction, or lets
the processor step over a copy of it, which is a second trap and costs ten times as much: 1,500 against 18,000 ns on
the `test` that glibc's free begins with. So the probe goes on the first instruction that the kernel emulates, as long
as everything before it leaves the stack pointer and the arguments that the probe reads as they were at the call.

The rules are those of arch/x86/kernel/uprobes.c: push of a register, nop, jmp, jcc and call with a relative target.
On other architectures, and wherever this is not sure, the probe goes on the first instruction.
"""

from __future__ import annotations

import capstone
from capstone import x86_const as x86

from diagnosis.target.parser.facts import Placement

# System V's argument registers, in their order.
_ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
_ALIASES = {
    alias: full
    for full, aliases in {
        "rdi": ("edi", "di", "dil"),
        "rsi": ("esi", "si", "sil"),
        "rdx": ("edx", "dx", "dl", "dh"),
        "rcx": ("ecx", "cx", "cl", "ch"),
        "r8": ("r8d", "r8w", "r8b"),
        "r9": ("r9d", "r9w", "r9b"),
        "rsp": ("esp", "sp", "spl"),
    }.items()
    for alias in aliases
}


def place(code: bytes, machine: str, *, arguments: int = len(_ARGUMENTS), at_entry: bool = False) -> Placement:
    """Choose the instruction to probe.

    Args:
        code: the start of the function, `CODE_BYTES` or the whole of a shorter one.
        machine: ``x64`` or another name of pyelftools' ``get_machine_arch``.
        arguments: how many of the first ones the probe reads: the others' registers may change before it.
        at_entry: choose the first instruction, for comparison.
    """
    if machine != "x64":
        return Placement(0, "", emulated=False, reason=f"entry: no rules for {machine}")
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    instructions = list(disassembler.disasm(code, 0))
    if not instructions:
        return Placement(0, "", emulated=False, reason="entry: the code cannot be decoded")
    if at_entry:
        return Placement(0, _text(instructions[0]), emulated=_emulated(instructions[0]), reason="entry: as asked")
    needed = frozenset({"rsp", *_ARGUMENTS[:arguments]})
    targets = {target for insn in instructions if (target := _relative_target(insn)) is not None}
    for insn in instructions:
        if insn.address and insn.address in targets:
            break  # a loop comes back here: the probe would fire more than once a call
        if _emulated(insn):
            reason = "entry: emulated" if not insn.address else "first emulated instruction"
            return Placement(insn.address, _text(insn), emulated=True, reason=reason)
        if _leaves_straight_line(insn) or _writes(insn, needed):
            break
    return Placement(
        0, _text(instructions[0]), emulated=False, reason="entry: nothing emulated before arguments change"
    )


def _text(insn: capstone.CsInsn) -> str:
    return f"{insn.mnemonic} {insn.op_str}".strip()


def _emulated(insn: capstone.CsInsn) -> bool:
    """True where uprobes emulate: see branch_setup_xol_ops and push_setup_xol_ops of the kernel."""
    raw = bytes(insn.bytes)
    if raw[0] in (0xE8, 0xE9, 0xEB, 0x90) or 0x70 <= raw[0] <= 0x7F:
        return True
    if len(raw) > 1 and raw[0] == 0x0F and 0x80 <= raw[1] <= 0x8F:
        return True
    return 0x50 <= raw[0] <= 0x57 or (len(raw) == 2 and raw[0] == 0x41 and 0x50 <= raw[1] <= 0x57)


def _relative_target(insn: capstone.CsInsn) -> int | None:
    if insn.group(capstone.CS_GRP_JUMP) and insn.operands and insn.operands[0].type == x86.X86_OP_IMM:
        return int(insn.operands[0].imm)
    return None


def _leaves_straight_line(insn: capstone.CsInsn) -> bool:
    groups = (capstone.CS_GRP_JUMP, capstone.CS_GRP_CALL, capstone.CS_GRP_RET, capstone.CS_GRP_INT)
    return any(insn.group(group) for group in groups) or insn.id == x86.X86_INS_SYSCALL


def _writes(insn: capstone.CsInsn, needed: frozenset[str]) -> bool:
    _, written = insn.regs_access()
    names = {insn.reg_name(register) for register in written}
    return bool(needed & {_ALIASES.get(name, name) for name in names})
