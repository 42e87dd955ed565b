"""How control goes through a function: where it leaves, and whether it ends in another function of the heap.

Read from the machine code of x86-64, without running it. Jumps are followed both ways, also out of the function into
the next one (a tail call) and into a part that the compiler moved away; calls are stepped over, as they come back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

import capstone
from capstone import x86_const as x86

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from diagnosis.target.parser.linkage import Linkage

# jemalloc's and tcmalloc's operator new have about 300 instructions with all that they jump to.
MAX_INSTRUCTIONS = 5_000
_CHUNK_BYTES = 512
_STUB_BYTES = 24
_LONGEST_INSTRUCTION = 15

# Functions that do not come back.
NO_RETURN = frozenset(
    {
        "abort", "exit", "_exit", "quick_exit", "__stack_chk_fail", "__assert_fail", "__cxa_throw", "__cxa_rethrow",
        "__cxa_throw_bad_array_new_length", "__cxa_bad_cast", "_Unwind_Resume", "__cxa_call_terminate",
        "_ZSt9terminatev", "_ZSt17__throw_bad_allocv", "_ZSt20__throw_system_errori", "__clang_call_terminate",
    }
)  # fmt: skip
_STACK = frozenset({x86.X86_REG_RSP, x86.X86_REG_RBP, x86.X86_REG_ESP, x86.X86_REG_EBP})
_ENDS = frozenset({x86.X86_INS_UD2, x86.X86_INS_HLT, x86.X86_INS_INT3})


class _Step(Enum):
    PLAIN = auto()
    STORE = auto()  # into other memory than the stack
    CALL = auto()
    JUMP = auto()
    BRANCH = auto()
    RETURN = auto()
    END = auto()
    UNKNOWN = auto()


@dataclass(frozen=True)
class _Instruction:
    """One instruction: where the next one is, and where a call or jump leads: an address, a name, or not known."""

    step: _Step
    following: int
    target: int | str | None = None


@dataclass(frozen=True)
class Exits:
    """The addresses of every ``ret`` by which a function can return; ``missing`` says why there may be others."""

    addresses: tuple[int, ...]
    missing: str = ""


class Flow:
    """The code of one file.

    Args:
        linkage: the file.
        functions: the addresses of those of `NO_RETURN` that the file has in it.
    """

    def __init__(self, linkage: Linkage, functions: Collection[int] = ()) -> None:
        self._linkage = linkage
        self._no_return = frozenset(functions)
        self._decoded: dict[int, _Instruction] = {}
        self._disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._disassembler.detail = True

    @property
    def readable(self) -> bool:
        """True where this module knows the machine's code."""
        return self._linkage.machine == "x64"

    def exits(self, entry: int) -> Exits:
        """Every way back to the caller of the function at an address."""
        queue, seen, found = deque([entry]), {entry}, set[int]()
        while queue:
            if len(seen) > MAX_INSTRUCTIONS:
                return Exits((), f"it has more than {MAX_INSTRUCTIONS:,} instructions")
            at = queue.popleft()
            instruction = self._decode(at)
            if instruction.step is _Step.UNKNOWN:
                return Exits((), f"it jumps at {at:#x} to where cannot be read from its code")
            if instruction.step is _Step.RETURN:
                found.add(at)
            for following in self._successors(instruction):
                if isinstance(following, str):
                    return Exits((), f"it jumps at {at:#x} to {following} of another file")
                if following not in seen:
                    seen.add(following)
                    queue.append(following)
        return Exits(tuple(sorted(found)), "" if found else "it never returns")

    def ends_in(self, entry: int, is_heap: Callable[[int | str], bool]) -> bool:
        """True where a function does its work by calling another one of the heap, or by jumping to it.

        It may check its arguments before. One that also has a way of its own, on which it writes to memory or calls
        something else and then returns, serves the heap by itself.
        """
        queue, seen, delegates = deque([(entry, False)]), {(entry, False)}, False
        while queue:
            if len(seen) > MAX_INSTRUCTIONS:
                return False
            at, worked = queue.popleft()
            instruction = self._decode(at)
            if instruction.target is not None and is_heap(instruction.target):
                delegates = True
                if instruction.step is _Step.BRANCH:
                    queue.append((instruction.following, worked))
                continue
            if instruction.step is _Step.UNKNOWN or (worked and instruction.step is _Step.RETURN):
                return False
            worked = worked or instruction.step in (_Step.STORE, _Step.CALL)
            for following in self._successors(instruction):
                if isinstance(following, str):
                    return False
                if (following, worked) not in seen:
                    seen.add((following, worked))
                    queue.append((following, worked))
        return delegates

    def _successors(self, instruction: _Instruction) -> Iterator[int | str]:
        """What can be executed next; a name where that is in another file."""
        step, target = instruction.step, instruction.target
        falls_through = step in (_Step.PLAIN, _Step.STORE, _Step.BRANCH)
        if step is _Step.CALL:
            falls_through = target not in NO_RETURN and target not in self._no_return
        if falls_through:
            yield instruction.following
        if step in (_Step.JUMP, _Step.BRANCH) and target is not None:
            if isinstance(target, str) and target not in NO_RETURN:
                yield self._linkage.defined.get(target, target)
            elif isinstance(target, int) and target not in self._no_return:
                yield target

    def _decode(self, address: int) -> _Instruction:
        if address not in self._decoded:
            code = self._linkage.read(address, _CHUNK_BYTES)
            for instruction in self._disassembler.disasm(code, address):
                known = instruction.address in self._decoded
                # An instruction at the chunk's end may be cut off there: it is read again, from its own start.
                cut = instruction.address + _LONGEST_INSTRUCTION > address + _CHUNK_BYTES
                if known or (cut and instruction.address != address):
                    break
                self._decoded[instruction.address] = decoded = self._classify(instruction)
                if decoded.step in (_Step.JUMP, _Step.RETURN, _Step.END, _Step.UNKNOWN):
                    break
        return self._decoded.setdefault(address, _Instruction(_Step.UNKNOWN, address))

    def _classify(self, instruction: capstone.CsInsn) -> _Instruction:
        following = instruction.address + instruction.size
        if instruction.group(capstone.CS_GRP_RET):
            return _Instruction(_Step.RETURN, following)
        if instruction.id in _ENDS:
            return _Instruction(_Step.END, following)
        if instruction.group(capstone.CS_GRP_CALL):
            return _Instruction(_Step.CALL, following, self._target(instruction))
        if instruction.group(capstone.CS_GRP_JUMP):
            target = self._target(instruction)
            if instruction.id != x86.X86_INS_JMP:
                return _Instruction(_Step.BRANCH, following, target)
            return _Instruction(_Step.UNKNOWN if target is None else _Step.JUMP, following, target)
        return _Instruction(_Step.STORE if _stores(instruction) else _Step.PLAIN, following)

    def _target(self, instruction: capstone.CsInsn) -> int | str | None:
        """Where a call or jump leads: through the procedure linkage table to a name, or straight to an address."""
        (operand,) = instruction.operands or (None,)
        if operand is None:
            return None
        if operand.type == x86.X86_OP_MEM:
            return self._slot(instruction, operand)
        if operand.type != x86.X86_OP_IMM:
            return None
        address = int(operand.imm)
        stub = self._linkage.read(address, _STUB_BYTES)
        for i, first in enumerate(self._disassembler.disasm(stub, address)):
            if first.id == x86.X86_INS_ENDBR64 and not i:
                continue
            if first.id == x86.X86_INS_JMP and first.operands[0].type == x86.X86_OP_MEM:
                return self._slot(first, first.operands[0]) or address
            break
        return address

    def _slot(self, instruction: capstone.CsInsn, operand: capstone.x86.X86Op) -> str | None:
        """The name of the function whose address the dynamic linker puts where a call or jump reads it."""
        if operand.mem.base != x86.X86_REG_RIP or operand.mem.index:
            return None
        return self._linkage.slots.get(instruction.address + instruction.size + operand.mem.disp)


def _stores(instruction: capstone.CsInsn) -> bool:
    return any(
        operand.type == x86.X86_OP_MEM
        and operand.access & capstone.CS_AC_WRITE
        and (operand.mem.base not in _STACK or operand.mem.index)
        for operand in instruction.operands
    )
